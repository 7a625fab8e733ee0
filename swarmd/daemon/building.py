"""The builder of a daemon, wired: containers of its runtime, images of its store, its part of the socket."""

from __future__ import annotations

import os
from collections.abc import Callable

import grpc

from swarmd import __version__
from swarmd.api import build
from swarmd.daemon.config import Config
from swarmd.image.store import ImageStore
from swarmd.kit.clock import Clock
from swarmd.kit.ids import new_id
from swarmd.kit.supervise import Report
from swarmd.node.agent.core.container import NodeFacts
from swarmd.node.building.bases import LocalBases
from swarmd.node.building.builder import Builder
from swarmd.node.building.running import Runner
from swarmd.node.describe import describe, resolver_settings
from swarmd.node.network.port import NetworkPort
from swarmd.node.runtime.port import Runtime
from swarmd.rpc.v1 import images_pb2


class Building:
    """``network``: this node's, while it is in a swarm; ``changed``: told of new images."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        runtime: Runtime,
        images: ImageStore,
        network: Callable[[], NetworkPort | None],
        changed: Callable[[], None],
        report: Report,
    ) -> None:
        self._clock = clock
        self._changed = changed
        self._report = report
        runner = Runner(runtime, config.data / "containers", network, _facts, new_id)
        self.builder = Builder(
            images,
            runner,
            LocalBases(images),
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
        return await build.cache_usage(self.builder)

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
