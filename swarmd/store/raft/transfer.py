"""A base on its way from one manager to another, in pieces.  Pure.

A base is the same bytes on every member, so a transfer that broke off goes on from any of them that has it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.records import Corrupt
from swarmd.store.raft.snapshots import Base, decode_base

_CHUNK_BYTES = 256 << 10


class Download:
    """What arrived so far of the newest base that somebody has."""

    def __init__(self) -> None:
        self._digest, self._total = "", 0
        self._data = bytearray()

    def request(self, min_epoch: int) -> pb.SnapshotRequest:
        """Ask for a base of ``min_epoch`` or later, or for the rest of the one that began to arrive."""
        return pb.SnapshotRequest(min_epoch=min_epoch, offset=len(self._data), digest=self._digest)

    def add(self, peer: str, chunk: pb.SnapshotChunk) -> None:
        """The next piece.  Raises Corrupt when it does not fit; then everything has to come again."""
        if chunk.digest != self._digest:
            self.clear()
            self._digest = chunk.digest
        self._total = chunk.total_size
        if chunk.offset != len(self._data):
            self.clear()
            raise Corrupt(f"Manager {peer} sent pieces of its snapshot that do not fit together.")
        self._data += chunk.data

    def clear(self) -> None:
        """Forget what arrived."""
        self._digest, self._total = "", 0
        self._data = bytearray()

    def take(self) -> tuple[bytes, str] | None:
        """The whole base and the digest it should have, taken out; None until all of it is here."""
        if not self._total or len(self._data) < self._total:
            return None
        data, digest = bytes(self._data), self._digest
        self.clear()
        return data, digest


def verified(peer: str, data: bytes, digest: str) -> Base:
    """The base in ``data``, as ``peer`` sent it.  Raises Corrupt."""
    if hashlib.sha256(data).hexdigest() != digest:
        raise Corrupt(f"The snapshot that manager {peer} sent arrived damaged.")
    return decode_base(data, f"from manager {peer}")


def chunks(epoch: int, data: bytes, digest: str, request: pb.SnapshotRequest) -> Iterator[pb.SnapshotChunk]:
    """The pieces of the base of ``epoch`` that ``request`` is for: from its offset, if it means this base."""
    start = request.offset if request.digest == digest else 0
    for offset in range(start, len(data), _CHUNK_BYTES):
        piece = data[offset : offset + _CHUNK_BYTES]
        yield pb.SnapshotChunk(epoch=epoch, total_size=len(data), offset=offset, digest=digest, data=piece)
