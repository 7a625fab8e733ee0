"""The images of a node as a part of the swarm: what it tells of them, how it gets those it lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from swarmd.daemon.state import NodeMemory
from swarmd.daemon.trusting import admission
from swarmd.image.kernel import goarch
from swarmd.image.store import ImageStore
from swarmd.kit.clock import Clock
from swarmd.kit.ids import random_fraction
from swarmd.kit.supervise import Nursery
from swarmd.model.errors import SwarmError
from swarmd.node.admission import Admitted
from swarmd.node.agent.fetch import ImageFetcher, Origin
from swarmd.node.agent.session import SessionClient
from swarmd.node.distribution.blobs import Blobs
from swarmd.node.distribution.core.choosing import Provider
from swarmd.rpc.channels import Channels
from swarmd.rpc.v1 import agent_pb2


class Imaging:
    """``session`` and ``memory``: of this node at the moment; ``origin``: outside registries.

    ``policy``: where it is remembered what images must be.
    """

    def __init__(
        self,
        images: ImageStore,
        channels: Channels,
        *,
        session: Callable[[], SessionClient],
        memory: Callable[[], NodeMemory],
        clock: Clock,
        nursery: Nursery,
        policy: Path,
        origin: Origin | None = None,
    ) -> None:
        self._images = images
        self._session = session
        self._memory = memory
        self._nursery = nursery
        self._log = structlog.get_logger()
        self.blobs = Blobs(
            images.content,
            channels,
            leader=lambda: session().leader_channel(),
            managers=self._managers,
            own=lambda: (memory().node_id, memory().address),
            changed=self._changed,
            clock=clock,
            fraction=random_fraction,
        )
        self.admission = admission(policy, images, lambda: session().leader_channel(), clock)
        fetcher = ImageFetcher(
            images,
            self.blobs,
            lambda: session().leader_channel(),
            lambda text: self._log.info("image", what=text),
            arch=goarch(),
            clock=clock,
            changed=self._changed,
            origin=origin,
        )
        self.fetcher = Admitted(fetcher, self.admission)

    def inventory(self) -> agent_pb2.ImageInventory:
        """What images are here, by name, and those without one by digest."""
        inventory = agent_pb2.ImageInventory()
        for image in self._images.list():
            for ref in image.refs or (image.digest,):
                inventory.images.add(ref=ref, digest=image.digest)
        return inventory

    def held(self) -> list[bytes]:
        """The blobs that are here, as inventories have them."""
        return [bytes.fromhex(digest.rpartition(":")[2]) for digest in self._images.held()]

    def preload(self, order: agent_pb2.Preload) -> None:
        """Fetch an image ahead, and say how it goes."""
        self._nursery.start(f"preload {order.ref}", self._preload(order))

    async def _preload(self, order: agent_pb2.Preload) -> None:
        amounts: dict[str, tuple[int, int]] = {}

        def progress(item: str, state: str, current: int = 0, total: int = 0) -> None:
            if total:
                amounts[item] = (current, total)
            self._say(
                order,
                "fetching",
                current=sum(current for current, _ in amounts.values()),
                total=sum(total for _, total in amounts.values()),
            )

        self._say(order, "fetching")
        try:
            await self.fetcher.ensure(order.ref, progress=progress)
            await self._images.prepare(order.ref)
        except SwarmError as error:
            self._say(order, "failed", str(error))
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            self._say(order, "failed", f"the node's daemon failed, see its log: {text}")
            raise
        else:
            self._say(order, "done")

    def _say(
        self, order: agent_pb2.Preload, state: str, message: str = "", *, current: int = 0, total: int = 0
    ) -> None:
        self._session().say(
            agent_pb2.PreloadStatus(id=order.id, state=state, message=message, current=current, total=total)
        )

    def _changed(self) -> None:
        self._session().images_changed()

    def _managers(self) -> list[Provider]:
        return [Provider(one.node_id, one.address, manager=True) for one in self._memory().managers]
