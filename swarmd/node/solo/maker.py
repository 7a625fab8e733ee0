"""Makes the container of a record: its image, its volumes, its place on the network."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec

from swarmd.image.store import ImageStore
from swarmd.model.errors import Refused, SwarmError
from swarmd.node.agent.core import container, mounts
from swarmd.node.agent.core.container import Asked, NodeFacts
from swarmd.node.agent.core.etc_files import files
from swarmd.node.agent.mounting import Mounting
from swarmd.node.network.port import Attachment, NetworkPort
from swarmd.node.runtime.port import Runtime
from swarmd.node.solo.core import networks
from swarmd.node.solo.core.record import Record
from swarmd.node.volume.volumes import Volumes

NO_NETWORK = (
    "this node is in no swarm, so its containers have no network of their own: "
    "say --network host or --network none"
)


Admit = Callable[[str, str], Awaitable[None]]
"""(name or id, digest if it is known): raises Refused for an image that the swarm's rules do not let run."""


Rewrite = Callable[[str, str, str, str], None]
"""(container, name of a generated file, its text, another text): see :meth:`Shelf.rewrite`."""


class OwnImages:
    """Only what this node holds."""

    def __init__(self, images: ImageStore, admit: Admit) -> None:
        self._images = images
        self._admit = admit

    async def ensure(self, ref: str) -> None:
        """Raises NotFound, Refused."""
        self._images.resolve(ref)
        await self._admit(ref, "")


class Maker:
    """``network``: this node's, while it is in a swarm."""

    def __init__(
        self,
        runtime: Runtime,
        images: ImageStore,
        volumes: Volumes,
        network: Callable[[], NetworkPort | None],
        facts: Callable[[], NodeFacts],
        admit: Admit,
        rewrite: Rewrite,
    ) -> None:
        self._runtime = runtime
        self._images = images
        self._admit = admit
        self._rewrite = rewrite
        self._mounting = Mounting(images, OwnImages(images, admit), volumes)
        self._network = network
        self._facts = facts

    async def make(self, record: Record) -> str:
        """The container, not started; answers its address.  An error leaves none."""
        network = self._network()
        if record.network == "" and network is None:
            raise Refused(NO_NETWORK)
        spec = record.spec
        await self._mounting.prepare(spec.mounts)
        await self._admit(record.image, record.digest)
        rootfs = await self._images.prepare(record.digest)
        wanted = mounts.wanted(spec.mounts, rootfs.config)
        facts = self._facts()
        asked = Asked(
            id=record.id,
            spec=spec,
            mounts=wanted,
            limits=record.limits,
            runtime=record.runtime,
            hostname=facts.hostname if record.network == "host" else record.id[:12],
            labels=spec.labels,
            addresses=networks.addresses(record),
        )
        try:
            sources = await self._mounting.sources(record.id, wanted)
            config = container.config(asked, rootfs.config, rootfs.layers, facts, sources)
            config = msgspec.structs.replace(config, network_mode=record.network)
            pid = await self._runtime.create(config)
            self._images.known(rootfs.digest)
        finally:
            self._mounting.made(record.id)
        if record.network or network is None:
            return ""
        try:
            return await _attach(network, networks.place(msgspec.structs.replace(record, address=""), pid))
        except SwarmError:
            await self.unmake(record.id)
            raise

    async def renew(self, before: Record, after: Record) -> None:
        """It runs, and its networks are others now: addresses, routes and names follow.

        Raises Unavailable, Refused.
        """
        network, state = self._network(), self._runtime.inspect(after.id)
        if network is None or state is None or after.network:
            return
        await _attach(network, networks.place(after, state.pid))
        old, new = (self._resolv_conf(one) for one in (before, after))
        if old != new:
            await asyncio.to_thread(self._rewrite, after.id, "resolv.conf", old, new)

    def _resolv_conf(self, record: Record) -> str:
        settings = self._facts().resolv_conf
        return files(record.spec, record.id[:12], settings, networks.addresses(record)).resolv_conf

    async def unmake(self, container_id: str) -> None:
        """The container goes, whatever it does; its layer and log stay."""
        state = self._runtime.inspect(container_id)
        if state is not None:
            if state.status != "exited":
                await self._runtime.stop(container_id, grace=0.0)
            await self._runtime.remove(container_id)
        await self.disconnect(container_id)

    async def disconnect(self, container_id: str) -> None:
        """Its address is free again."""
        network = self._network()
        if network is not None:
            await network.detach(container_id)

    async def undo(self, container_id: str) -> None:
        """It was asked for and could not be made: nothing of it stays, neither the volumes of its own."""
        with contextlib.suppress(SwarmError):  # the daemon's next start, or a prune
            await self.unmake(container_id)
            await self.forget_volumes(container_id)

    async def forget_volumes(self, container_id: str) -> None:
        """Volumes without a name go with their container."""
        await self._mounting.gone(container_id)


async def _attach(network: NetworkPort, place: Attachment) -> str:
    return await network.attach(
        place.task_id,
        place.pid,
        address=place.address or None,
        networks=place.networks,
        names=place.names,
        servers=place.servers,
    )
