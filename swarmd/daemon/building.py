"""The builder of a daemon, wired: containers of its runtime, images of its store, its part of the socket."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

import grpc

from swarmd import __version__
from swarmd.api import build
from swarmd.api.build_usage import cache_usage
from swarmd.daemon.config import Config
from swarmd.daemon.member import Member
from swarmd.image.core.catalog import ImageInfo
from swarmd.image.port import Progress
from swarmd.image.store import ImageStore
from swarmd.kit.clock import Clock
from swarmd.kit.ids import new_id
from swarmd.kit.supervise import Report
from swarmd.node.agent.core.container import NodeFacts
from swarmd.node.building.bases import Logins
from swarmd.node.building.builder import Builder
from swarmd.node.building.running import Runner
from swarmd.node.describe import describe, resolver_settings
from swarmd.node.network.port import NetworkPort
from swarmd.node.runtime.port import Runtime
from swarmd.rpc.v1 import images_pb2


class Fetched(Protocol):
    """From its registry, as the user may who builds, or the swarm.  Raises SwarmError."""

    async def __call__(
        self, ref: str, *, platform: str, newest: bool, logins: Logins, progress: Progress
    ) -> ImageInfo: ...


class _Elsewhere:
    """Images that this node lacks: of other nodes of its swarm, else of registries."""

    def __init__(self, member: Callable[[], Member | None], fetched: Fetched) -> None:
        self._member = member
        self._fetched = fetched

    async def fetch(
        self, ref: str, platform: str, *, newest: bool, logins: Logins, progress: Progress
    ) -> ImageInfo:
        """Raises NotFound, Denied, Unavailable."""
        return await self._fetched(ref, platform=platform, newest=newest, logins=logins, progress=progress)

    async def admit(self, ref: str, digest: str) -> None:
        """What a build begins with runs in it, and is copied from: the swarm's rules hold for it."""
        member = self._member()
        if member is not None:
            await member.working.admission.check(ref, digest)


class Building:
    """``network``: this node's, while it is in a swarm; ``changed``: told of new images."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        runtime: Runtime,
        images: ImageStore,
        network: Callable[[], NetworkPort | None],
        member: Callable[[], Member | None],
        fetched: Fetched,
        changed: Callable[[], None],
        report: Report,
    ) -> None:
        self._clock = clock
        self._changed = changed
        self._report = report
        bases = _Elsewhere(member, fetched)
        runner = Runner(runtime, config.data / "containers", network, _facts, new_id)
        self.builder = Builder(
            images,
            runner,
            bases,
            clock,
            new_id,
            root=config.data / "build",
            private=config.run / "build",
            processors=len(os.sched_getaffinity(0)),
        )

    async def open(self) -> None:
        """When images and containers are there."""
        await self.builder.open()

    async def close(self) -> None:
        """Nothing is built from now on."""
        await self.builder.close()

    async def cache(self) -> list[images_pb2.CacheUsage]:
        """What ``system df`` says of the build cache."""
        return await cache_usage(self.builder)

    def serve(self, server: grpc.aio.Server) -> None:
        """Add the Builder service to the daemon's socket."""
        build.add_to(server, build.BuilderServer(self.builder, self._clock, self._changed, self._report))


def _facts() -> NodeFacts:
    about = describe(__version__, {})
    return NodeFacts(
        node_id="",
        hostname=about.hostname,
        resolv_conf=resolver_settings(),
        os=about.os,
        arch=about.arch,
    )
