"""Which node holds which blob: memory of the leader, told anew by every node at each session."""

from __future__ import annotations

from collections.abc import Callable, Collection

from swarmd.rpc.v1 import agent_pb2

MOST = 12
"""Holders that one answer names."""


class BlobIndex:
    """Blobs of all connected nodes, by the plain bytes of their digests.

    A thousand nodes with a hundred blobs each are 10⁵ entries of two dictionaries: some 20 MB.
    """

    def __init__(self) -> None:
        self._by_node: dict[str, set[bytes]] = {}
        self._by_blob: dict[bytes, set[str]] = {}

    def take(self, node_id: str, message: agent_pb2.BlobInventory) -> None:
        """What a node holds now, or how that changed."""
        if message.complete:
            self.forget(node_id)
        held = self._by_node.setdefault(node_id, set())
        for blob in message.removed:
            held.discard(blob)
            self._without(blob, node_id)
        for blob in message.added:
            held.add(blob)
            self._by_blob.setdefault(blob, set()).add(node_id)

    def forget(self, node_id: str) -> None:
        """The node is gone."""
        for blob in self._by_node.pop(node_id, ()):
            self._without(blob, node_id)

    def holders(self, digest: str) -> Collection[str]:
        """Nodes that hold the blob."""
        return self._by_blob.get(plain(digest), frozenset())

    def some(self, digest: str, fraction: Callable[[], float]) -> list[str]:
        """A few holders by chance, so that those who ask at once go different ways."""
        return sorted(self.holders(digest), key=lambda _: fraction())[:MOST]

    def _without(self, blob: bytes, node_id: str) -> None:
        nodes = self._by_blob.get(blob)
        if nodes is not None:
            nodes.discard(node_id)
            if not nodes:
                del self._by_blob[blob]


def plain(digest: str) -> bytes:
    """A digest as inventories have it; empty for what is none."""
    try:
        return bytes.fromhex(digest.rpartition(":")[2])
    except ValueError:
        return b""
