"""What the nodes hold, as the leader knows: images by name, blobs by digest, and what the registry names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from swarmd.kit.clock import Clock
from swarmd.kit.ids import random_fraction
from swarmd.manager.dispatcher.blobs import BlobIndex
from swarmd.manager.dispatcher.core.pullers import Pullers
from swarmd.manager.dispatcher.images import ImageIndex
from swarmd.manager.dispatcher.preloads import Preloads
from swarmd.model.image_ref import ImageRef
from swarmd.model.objects import Node
from swarmd.model.states import Role
from swarmd.rpc.v1 import agent_pb2
from swarmd.store.store import Store

Registered = Callable[[ImageRef], str]
"""The digest that the swarm's registry has for a reference to it; "" for any other."""


class Holdings:
    """One term's knowledge; told by sessions, asked by nodes that lack something."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        tell: Callable[[str, agent_pb2.Preload], bool],
        registered: Registered,
    ) -> None:
        self._store = store
        self._clock = clock
        self._pullers = Pullers()
        self._registered = registered
        self.images = ImageIndex()
        self.blobs = BlobIndex()
        self.preloads = Preloads(tell)

    def take(self, node_id: str, message: agent_pb2.AgentMessage) -> None:
        """What a node says of images; anything else is passed over."""
        kind = message.WhichOneof("body")
        if kind == "images":
            self.images.report(node_id, {image.ref: image.digest for image in message.images.images})
        elif kind == "blobs":
            self.blobs.take(node_id, message.blobs)
        elif kind == "preload":
            self.preloads.take(node_id, message.preload)

    def forget(self, node_id: str) -> None:
        """Its session ended."""
        self.images.forget(node_id)
        self.blobs.forget(node_id)
        self.preloads.gone(node_id)

    def digest_of(self, ref: ImageRef, *, prefer: str = "") -> str:
        """What a reference means now: in the swarm's registry, else on the nodes; "" when nobody knows."""
        return ref.digest or self._registered(ref) or self.images.locate(ref, prefer=prefer)[0]

    def locate(self, ref: ImageRef) -> tuple[str, list[str]]:
        """(digest, nodes that have all or a part of it); ("", []) when nobody has it."""
        digest = self.digest_of(ref)
        if not digest:
            return "", []
        found = set(self.blobs.holders(digest)) | set(self.images.locate(ref.pinned(digest))[1])
        if not found and not self._store.manifests(digest):
            return "", []
        return digest, sorted(found, key=lambda _: random_fraction())

    def answer(self, ref: ImageRef, asking: str) -> agent_pb2.LocateImageResponse:
        """For a node that lacks an image: who has it, or whether it is to get it from outside itself."""
        digest, nodes = self.locate(ref)
        wait = not digest and not self._pullers.admits(ref.familiar(), asking, self._clock.monotonic())
        return agent_pb2.LocateImageResponse(digest=digest, holders=self.holders(nodes), wait=wait)

    def not_pulled(self, ref: ImageRef) -> None:
        """A node could not get it from outside: the others try themselves, and say why they cannot."""
        self._pullers.failed(ref.familiar(), self._clock.monotonic())

    def having(self, digest: str) -> Collection[str]:
        """Nodes that have an image, by the digest of its manifest."""
        ref = ImageRef("", digest=digest)
        return {*self.blobs.holders(digest), *self.images.locate(ref)[1]}

    def names_of(self, digest: str) -> Collection[str]:
        """Under which repositories nodes have an image; "" when they have it without a name."""
        return self.images.names(digest) or ({""} if self.blobs.holders(digest) else ())

    def holders(self, nodes: Iterable[str]) -> list[agent_pb2.ImageHolder]:
        """How these nodes are reached; those that are none any more are left out."""
        rows = [self._store.get(Node, node_id) for node_id in nodes]
        return [
            agent_pb2.ImageHolder(
                node_id=row.id, address=row.status.address, manager=row.role is Role.MANAGER
            )
            for row in rows
            if row is not None
        ]

    def blob_holders(self, digests: Iterable[str]) -> agent_pb2.LocateBlobsResponse:
        """Some holders of each blob, in the order of ``digests``."""
        response = agent_pb2.LocateBlobsResponse()
        for digest in digests:
            found = response.blobs.add(digest=digest)
            found.holders.extend(self.holders(self.blobs.some(digest, random_fraction)))
        return response
