"""How frames of encrypted networks travel between nodes: what a stream holds, and whose frames are whose.

A stream is a row of records: four bytes of length (network order), then ten bytes that say what the kernel
left undone of checksums and segments (virtio's header), then an Ethernet frame between the MACs of nodes.
"""

from __future__ import annotations

import struct

from msgspec import Struct

from swarmd.model.errors import Invalid
from swarmd.node.network.core.addresses import overlay_mac
from swarmd.node.network.core.papers import Papers

PORT = 4790
"""TCP, where a node's carrier is called."""
LONGEST = 65535 + 14 + 10
"""Bytes of the largest frame the kernel gives with its header: it leaves segments whole."""
_LENGTH = struct.Struct("!I")
_VIRTIO = 10
_SHORTEST = _VIRTIO + 14


class CarrierPeer(Struct, frozen=True):
    """Another node that frames are carried to.  ``address``: its IP; ``number`` gives its MAC."""

    node_id: str
    number: int
    address: str


class Orders(Struct, frozen=True):
    """What the carrier of a node is to do, as a whole; the next ones replace it.  Only nodes of ``peers`` are
    talked to.  ``address`` and ``port``: where they call this one."""

    node_id: str
    number: int
    address: str
    port: int
    papers: Papers
    peers: tuple[CarrierPeer, ...] = ()


class Said(Struct, frozen=True):
    """What the carrier says of itself.  ``joined``: ids of the nodes it has a stream with."""

    joined: tuple[str, ...] = ()
    problem: str = ""


def record(frame: bytes) -> bytes:
    """A frame with its virtio header, as it stands in a stream."""
    return _LENGTH.pack(len(frame)) + frame


class Records:
    """Cuts what comes out of a stream into frames."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are whole now.  Raises :class:`Invalid` for a length no frame has."""
        self._kept += data
        found: list[bytes] = []
        start, end = 0, len(self._kept)
        while end - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._kept, start)
            if not _SHORTEST <= length <= LONGEST:
                raise Invalid(f"a frame of {length} bytes: frames have {_SHORTEST} to {LONGEST}")
            if end - start - _LENGTH.size < length:
                break
            start += _LENGTH.size
            found.append(bytes(self._kept[start : start + length]))
            start += length
        del self._kept[:start]
        return found


def destination(frame: bytes) -> int | None:
    """The number of the node a frame is for; None when it is for no single node."""
    mac = frame[_VIRTIO : _VIRTIO + 6]
    return int.from_bytes(mac[2:], "big") if mac[:2] == b"\x02\x77" else None


def is_between(frame: bytes, sender: int, receiver: int) -> bool:
    """Whether it is from that node to that one.  VXLAN cannot tell; a stream belongs to one node."""
    return frame[_VIRTIO : _VIRTIO + 12] == overlay_mac(receiver) + overlay_mac(sender)


def calls(own: int, other: int) -> bool:
    """Whether this node opens the stream of the pair: the one with the lower number does."""
    return own < other
