"""What managers keep of images: whatever the swarm's registry or a service's spec refers to.

push, service create ──► spread: on enough managers before anybody is told that it is done
rows of the store    ──► run: every other manager fetches it too, in the background
collection of garbage ──► roots: none of it is thrown away
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from swarmd.image.port import Content
from swarmd.kit.clock import Clock
from swarmd.kit.groups import TaskGroup
from swarmd.kit.supervise import until
from swarmd.model import image_ref
from swarmd.model.errors import Invalid, NotFound, SwarmError, Unavailable
from swarmd.model.objects import Node, Service, SpecVersion
from swarmd.model.registry import RegistryManifest
from swarmd.model.spec import TaskTemplate
from swarmd.node.distribution import parts
from swarmd.node.distribution.blobs import Blobs
from swarmd.node.distribution.core.choosing import Provider
from swarmd.rpc.channels import Channels
from swarmd.rpc.errors import calling
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc
from swarmd.store.store import Store
from swarmd.store.watch import Overrun, Watch

COPIES = 2
"""Managers that must have what is pushed, or all there are."""

SPREAD_LIMIT = 900.0
"""Seconds another manager gets to fetch it."""

CREATE_LIMIT = 20.0
"""Seconds a service waits for its image to be kept; after that a warning says that it is not yet."""

IDLE = 3600.0
RETRY = 30.0
"""Seconds after which a manager tries again to have what it could not get."""

NOT_KEPT = (
    "image {0} is not yet kept by enough managers ({1}).\n"
    "They go on fetching it; until they have it, the nodes that have it now are needed.\n"
)


class Having(Protocol):
    """Nodes that have an image, by its digest, as the leader knows."""

    def __call__(self, digest: str) -> Collection[str]: ...


class Keeping:
    """One manager's share.  ``members``: of the group; ``having``: while this manager leads."""

    def __init__(
        self,
        *,
        node_id: str,
        store: Store,
        members: Callable[[], Mapping[str, str]],
        having: Having,
        content: Content,
        blobs: Blobs,
        channels: Channels,
        clock: Clock,
    ) -> None:
        self._node_id = node_id
        self._store = store
        self._members = members
        self._having = having
        self._content = content
        self._blobs = blobs
        self._channels = channels
        self._clock = clock
        self._complete: set[str] = set()
        self._failed: dict[str, str] = {}
        self._log = structlog.get_logger()

    # what is kept

    def roots(self) -> set[str]:
        """Digests of manifests, indexes and blobs that stay here whatever else goes.

        Raises Unavailable while this manager does not know the swarm yet.
        """
        if self._store.cluster() is None:
            raise Unavailable("what the swarm keeps is not known yet")
        found = set(self._in_specs())
        for row in self._store.all(RegistryManifest):
            found.update((row.digest, *row.blobs))
        return found

    async def run(self) -> None:
        """Have all of it here, for as long as this node is a manager."""
        watch, news = self._store.watch(), asyncio.Event()
        async with TaskGroup() as group:
            group.create_task(_listen(watch, news), name="keeping: store")
            while True:
                news.clear()
                await self._fetch_all()
                # Nothing but a change makes it look again, or that something could not be had.
                await until(self._clock.sleep(RETRY if self._failed else IDLE), news)

    async def _fetch_all(self) -> None:
        wanted: dict[str, tuple[str, ...]] = {digest: (digest,) for digest in self._in_specs()}
        wanted |= {row.digest: (row.digest, *row.blobs) for row in self._store.all(RegistryManifest)}
        self._complete &= wanted.keys()
        self._failed = {digest: why for digest, why in self._failed.items() if digest in wanted}
        for digest, known in wanted.items():
            if digest not in self._complete or not self._content.has(digest):
                await self._fetch(digest, known)

    async def _fetch(self, digest: str, known: tuple[str, ...]) -> None:
        try:
            await parts.everything(self._blobs, self._content, digest, patience=1)
            for blob in known:  # what is to be had elsewhere was pushed all the same, or was not
                with contextlib.suppress(NotFound):
                    await self._blobs.ensure_blob(blob, patience=1)
        except SwarmError as error:
            if self._failed.get(digest) != str(error):
                self._log.info("image_not_kept_yet", digest=digest, reason=str(error))
            self._failed[digest] = str(error)
        else:
            self._failed.pop(digest, None)
            self._complete.add(digest)

    def _in_specs(self) -> set[str]:
        """Digests in running, present and previous specs."""
        templates = [row.template for row in self._store.all(SpecVersion)]
        for service in self._store.all(Service):
            templates.append(service.spec.template)
            if service.previous_spec is not None:
                templates.append(service.previous_spec.template)
        return {digest for template in templates for digest in _digests(template)}

    # bringing it to the managers

    async def spread(self, digests: Sequence[str], *, holder: str) -> None:
        """Blobs that the node ``holder`` has are on enough managers; raises Unavailable otherwise."""
        members = list(self._members())
        needed = min(COPIES, len(members))
        have = {holder} & set(members)
        others = sorted(member for member in members if member not in (self._node_id, holder))
        waiting = [self._node_id] * (self._node_id not in have) + others
        reasons: list[str] = []
        while digests and len(have) < needed and waiting:
            now, waiting = waiting[: needed - len(have)], waiting[needed - len(have) :]
            async with TaskGroup() as group:
                asked = {
                    member: group.create_task(self._asked(member, digests, holder), name=f"keep {member}")
                    for member in now
                }
            have.update(member for member, task in asked.items() if not task.result())
            reasons += [text for task in asked.values() if (text := task.result())]
        if digests and len(have) < needed:
            raise Unavailable(
                f"only {len(have)} of {needed} managers could get the image: {'; '.join(reasons)}"
            )

    async def keep(self, digests: Sequence[str], *, first: Sequence[Provider] = ()) -> None:
        """Have blobs here, as another manager asked.  Raises NotFound, Unavailable."""
        with self._content.holding(digests):
            await self._blobs.ensure_blobs(digests, first=first)

    async def keep_image(self, ref: image_ref.ImageRef) -> str:
        """Have a pinned image of the nodes on enough managers; a warning to show when it is not there yet.

        An image that no node has is an outside registry's: nothing is done about it.
        """
        having = set(self._having(ref.digest))
        members = set(self._members())
        if not having or len(having & members) >= min(COPIES, len(members)):
            return ""
        try:
            async with asyncio.timeout(CREATE_LIMIT):
                holders = self._providers(having)
                digests = await parts.everything(self._blobs, self._content, ref.digest, first=holders)
                await self.spread(digests, holder=self._node_id)
        except TimeoutError:
            return NOT_KEPT.format(ref.familiar(), f"after {CREATE_LIMIT:.0f} seconds")
        except SwarmError as error:
            return NOT_KEPT.format(ref.familiar(), error)
        return ""

    async def _asked(self, member: str, digests: Sequence[str], holder: str) -> str:
        """Why that manager could not get them; "" when it has them."""
        try:
            if member == self._node_id:
                await self.keep(digests, first=self._providers([holder]))
            else:
                await self._call(member, digests, holder)
        except SwarmError as error:
            return f"{self._name(member)}: {error}"
        return ""

    async def _call(self, member: str, digests: Sequence[str], holder: str) -> None:
        node = self._store.get(Node, member)
        if node is None:
            raise Unavailable("it is no node of this swarm any more")
        request = agent_pb2.KeepBlobsRequest(digests=digests)
        for provider in self._providers([holder]):
            request.holder.CopyFrom(agent_pb2.ImageHolder(node_id=provider.node_id, address=provider.address))
        with calling(), self._channels.using(node.status.address, member) as channel:
            await agent_pb2_grpc.NodePeerStub(channel).KeepBlobs(request, timeout=SPREAD_LIMIT)

    def _providers(self, nodes: Iterable[str]) -> list[Provider]:
        rows = [self._store.get(Node, node_id) for node_id in nodes]
        return [Provider(row.id, row.status.address) for row in rows if row is not None]

    def _name(self, node_id: str) -> str:
        node = self._store.get(Node, node_id)
        return (node.description.hostname if node else "") or node_id


async def _listen(watch: Watch, news: asyncio.Event) -> None:
    while True:
        try:
            events = await watch.next()
        except Overrun:
            news.set()
            continue
        if any(event.kind in (RegistryManifest, Service, SpecVersion) for event in events):
            news.set()


def _digests(template: TaskTemplate) -> list[str]:
    container = template.container
    texts = [container.image, *(mount.source for mount in container.mounts if mount.kind == "image")]
    found: list[str] = []
    for text in texts:
        try:
            found.append(image_ref.parse(text).digest)
        except Invalid:
            continue
    return [digest for digest in found if digest]
