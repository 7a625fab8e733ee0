"""The containers of a daemon, wired: tasks' and single ones, for users of its socket and for managers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from swarmd import __version__
from swarmd.api.containers import ContainersHandlers, Metadata
from swarmd.api.images import Cache, ImagesServer
from swarmd.api.own_containers import OwnContainers
from swarmd.daemon.config import Config
from swarmd.daemon.finding import Finder
from swarmd.daemon.member import Member
from swarmd.image.store import ImageStore
from swarmd.kit.clock import Clock
from swarmd.kit.ids import new_id
from swarmd.kit.supervise import Nursery, Report, caught
from swarmd.model import image_ref
from swarmd.model.errors import Invalid, NotFound, Refused
from swarmd.model.spec import ContainerSpec
from swarmd.node.agent.core.container import NodeFacts
from swarmd.node.agent.core.mounts import images as mounted_images
from swarmd.node.containers.commit import Committer
from swarmd.node.containers.local import LocalContainers
from swarmd.node.describe import describe, resolver_settings
from swarmd.node.network.port import NetworkPort
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.solo.keeper import Keeper
from swarmd.node.solo.maker import Maker
from swarmd.node.solo.managers import Leader
from swarmd.node.solo.shelf import Shelf
from swarmd.node.volume.volumes import Volumes


class Containers:
    """``network`` and ``member``: this node's, while it is in a swarm."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        runtime: LocalRuntime,
        images: ImageStore,
        volumes: Volumes,
        network: Callable[[], NetworkPort | None],
        member: Callable[[], Member | None],
        report: Report,
    ) -> None:
        self._clock = clock
        self._runtime = runtime
        self._images = images
        self._volumes = volumes
        self._member = member
        self._report = report
        self._about = describe(__version__, {})
        self._nursery = Nursery(report)
        shelf = Shelf(config.data)
        maker = Maker(runtime, images, volumes, network, self._facts, self._admit, shelf.rewrite)
        leader = Leader(self._leader, clock)
        self.keeper = Keeper(runtime, maker, shelf, clock, self._nursery, leader)
        self._committer = Committer(
            runtime,
            runtime.archives,
            images,
            clock,
            work=config.data / "commits",
            asked=self._asked,
            changed=self.images_changed,
        )
        self.local = self._operated(config)

    def _operated(self, config: Config) -> LocalContainers:
        return LocalContainers(
            self._runtime,
            self._runtime.archives,
            data_dir=config.data,
            hostname=self._about.hostname,
            memory=self._about.memory,
            allow=config.exec_allow,
            names=self.keeper.names,
            image_of=self._image_of,
            health_of=self._health_of,
            killed=self.keeper.killed,
            commit=self._committer.commit,
        )

    async def open(self) -> None:
        """Before the swarm is resumed."""
        await self._committer.open()
        self.keeper.open()

    async def stop(self) -> None:
        """Nothing is started again from now on; what runs runs on."""
        await self._nursery.close()

    def calls(self, passing_on: Callable[[Any], Metadata]) -> ContainersHandlers:
        """The Containers service of the daemon's socket."""
        own = OwnContainers(self.local, self._clock, self.keeper, self._images, new_id)
        return ContainersHandlers(own, Finder(self.local, self._member).find, passing_on)

    def images_server(self, cache: Cache) -> ImagesServer:
        """The Images service of the daemon's socket."""
        return ImagesServer(self._images, self.local, self.keeper, self._volumes, self, cache)

    async def abandon(self) -> None:
        """No task's container outlives a membership."""
        for state in self._runtime.list():
            if self.keeper.get(state.id) is None:
                error = await caught(self._end(state.id, state.status))
                if error is not None:
                    self._report(f"end of container {state.id}", error)

    async def _end(self, container_id: str, status: str) -> None:
        if status != "exited":
            await self._runtime.stop(container_id, grace=0.0)
        await self._runtime.remove(container_id)

    def images_changed(self) -> None:
        """The managers are told anew which images this node has."""
        member = self._member()
        if member is not None:
            member.working.session.images_changed()

    def image_users(self, digest: str) -> list[str]:
        """Names of the tasks and single containers here that run an image, or have it mounted."""
        single = [
            one.name
            for one in self.keeper.all()
            if one.digest == digest
            or any(self._digest(ref) == digest for ref in mounted_images(one.spec.mounts))
        ]
        member = self._member()
        if member is None:
            return single
        return single + member.working.worker.users_of(lambda ref: self._digest(ref) == digest)

    def _digest(self, ref: str) -> str:
        try:
            return image_ref.parse(ref).digest or self._images.resolve(ref).digest
        except (Invalid, NotFound):
            return ""

    def _asked(self, container_id: str) -> tuple[str, ContainerSpec] | None:
        """The image a container was made of, and how it was asked for."""
        record = self.keeper.get(container_id)
        if record is not None:
            return record.digest or record.image, record.spec
        spec = self._spec_of(container_id)
        return (spec.image, spec) if spec is not None else None

    def _spec_of(self, task_id: str) -> ContainerSpec | None:
        member = self._member()
        return member.working.worker.spec_of(task_id) if member is not None else None

    async def _admit(self, ref: str, digest: str) -> None:
        """A node of a swarm keeps its rules for single containers, too."""
        member = self._member()
        if member is not None:
            await member.working.admission.check(ref, digest)

    def _image_of(self, container_id: str) -> str:
        record = self.keeper.get(container_id)
        if record is not None:
            return record.image
        spec = self._spec_of(container_id)
        return spec.image if spec is not None else ""

    def _health_of(self, container_id: str) -> str:
        member = self._member()
        return member.working.worker.health_of(container_id) if member is not None else ""

    def _leader(self) -> grpc.aio.Channel:
        """Raises Refused in no swarm, Unavailable without a leader."""
        member = self._member()
        if member is None:
            raise Refused("this node is in no swarm, and only a swarm has networks to join")
        return member.working.session.leader_channel()

    def _facts(self) -> NodeFacts:
        member = self._member()
        return NodeFacts(
            node_id=member.memory.node_id if member is not None else "",
            hostname=self._about.hostname,
            resolv_conf=resolver_settings(),
            os=self._about.os,
            arch=self._about.arch,
        )
