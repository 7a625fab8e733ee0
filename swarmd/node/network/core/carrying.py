"""How frames of encrypted networks travel between nodes: what a stream holds, and whose frames are whose.

A stream is a row of records: four bytes of length (network order), then ten bytes that say what the kernel
left undone of checksums and segments (virtio's header), then an Ethernet frame between the MACs of nodes.
"""

from __future__ import annotations

import struct
from collections.abc import Collection

from msgspec import Struct

from swarmd.model.errors import Invalid
from swarmd.node.network.core.addresses import number_of, overlay_mac
from swarmd.node.network.core.papers import Papers

PORT = 4790
"""TCP, where a node's carrier is called."""
LONGEST = 65535 + 14 + 10
"""Bytes of the largest frame the kernel gives with its header: it leaves segments whole."""
_LENGTH = struct.Struct("!I")
_VIRTIO = 10
_TYPE, _PACKET = _VIRTIO + 12, _VIRTIO + 14
_SHORTEST = _PACKET
_ERRORS = frozenset(bytes([one]) for one in (3, 11, 12))
_ERRORS6 = frozenset(bytes([one]) for one in (1, 2, 3, 4))
"""Types of ICMP messages that are about another packet (RFC 1122, RFC 4443)."""


class CarrierPeer(Struct, frozen=True):
    """Another node that frames are carried to.  ``address``: its IP; ``number`` gives its MAC."""

    node_id: str
    number: int
    address: str


class Orders(Struct, frozen=True):
    """What the carrier of a node is to do, as a whole; the next ones replace it.  Only nodes of ``peers`` are
    talked to.  ``address`` and ``port``: where they call this one.  ``sources``: by the number of a peer, the
    addresses its containers have in encrypted networks that this node is in, too."""

    node_id: str
    number: int
    address: str
    port: int
    papers: Papers
    peers: tuple[CarrierPeer, ...] = ()
    sources: dict[int, tuple[str, ...]] = {}


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
    return number_of(mac) if mac[:2] == b"\x02\x77" else None


def is_between(frame: bytes, sender: int, receiver: int) -> bool:
    """Whether it is from that node to that one.  VXLAN cannot tell; a stream belongs to one node."""
    return frame[_VIRTIO : _VIRTIO + 12] == overlay_mac(receiver) + overlay_mac(sender)


def is_from(frame: bytes, sources: Collection[bytes]) -> bool:
    """Whether a container with one of these addresses (packed) may have sent it.

    Nodes on the way tell of packets that are too large or lead nowhere (ICMP errors) from addresses of their
    own; a kernel takes those only about a packet that it has sent itself.
    """
    kind = frame[_TYPE:_PACKET]
    if kind == b"\x08\x00":
        return frame[_PACKET + 12 : _PACKET + 16] in sources or _is_error(frame)
    if kind == b"\x86\xdd":
        return frame[_PACKET + 8 : _PACKET + 24] in sources or _is_error6(frame)
    return False


def _is_error(frame: bytes) -> bool:
    start = _PACKET + 4 * (frame[_PACKET] & 15) if len(frame) > _PACKET else 0
    return frame[_PACKET + 9 : _PACKET + 10] == b"\x01" and frame[start : start + 1] in _ERRORS


def _is_error6(frame: bytes) -> bool:
    return frame[_PACKET + 6 : _PACKET + 7] == b"\x3a" and frame[_PACKET + 40 : _PACKET + 41] in _ERRORS6


def calls(own: int, other: int) -> bool:
    """Whether this node opens the stream of the pair: the one with the lower number does."""
    return own < other
