"""The file that carries a whole swarm: it can be read without one, and any change of it is seen.

    b"SWRMSNP1" | u32 length | header, JSON | u64 length | rows | sha-256 of all before

The rows are a ``StoreSnapshot`` message.  They hold the authority's key and the join tokens: the file is as
secret as the swarm.  A later version may add to the header; a change of the layout changes the magic.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

import msgspec

from swarmd.model.errors import Invalid

MAGIC = b"SWRMSNP1"
FORMAT = 1
_HEADER_LENGTH = struct.Struct(">I")
_ROWS_LENGTH = struct.Struct(">Q")
_DIGEST = 32
_SHORTEST = len(MAGIC) + _HEADER_LENGTH.size + _ROWS_LENGTH.size + _DIGEST


PIECE = 256 << 10
"""Bytes of a file in one message."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says of itself.

    ``created_at``: seconds since 1970.  ``index``: applied changes.  ``epoch``: the managers' epoch then.
    ``counts``: rows of each kind.
    """

    format: int = FORMAT
    swarmd: str
    cluster_id: str
    created_at: float
    index: int
    epoch: int
    counts: dict[str, int]


def encode(header: Header, rows: bytes) -> bytes:
    """The bytes of a file."""
    about = msgspec.json.encode(header)
    whole = b"".join((MAGIC, _HEADER_LENGTH.pack(len(about)), about, _ROWS_LENGTH.pack(len(rows)), rows))
    return whole + hashlib.sha256(whole).digest()


def decode(data: bytes, name: str) -> tuple[Header, bytes]:
    """Header and rows; raises Invalid, naming the file, when a bit of it is not as written."""
    if not data.startswith(MAGIC):
        raise Invalid(f"{name} is no snapshot of a swarm: it does not begin like one.")
    if len(data) < _SHORTEST:
        raise Invalid(_cut(name, len(data)))
    start = len(MAGIC) + _HEADER_LENGTH.size
    (length,) = _HEADER_LENGTH.unpack_from(data, len(MAGIC))
    rows_at = start + length + _ROWS_LENGTH.size
    if rows_at + _DIGEST > len(data):
        raise Invalid(_cut(name, len(data)))
    (rows_length,) = _ROWS_LENGTH.unpack_from(data, start + length)
    end = rows_at + rows_length
    if end + _DIGEST > len(data):
        raise Invalid(_cut(name, len(data)))
    if len(data) != end + _DIGEST or hashlib.sha256(data[:end]).digest() != data[end:]:
        raise Invalid(f"The snapshot {name} is damaged: its checksum is wrong. Use another one.")
    return _header(data[start : start + length], name), data[rows_at:end]


def pieces(data: bytes) -> Iterator[bytes]:
    """``data`` in pieces that fit into a message."""
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]


def _header(data: bytes, name: str) -> Header:
    try:
        header = msgspec.json.decode(data, type=Header)
    except msgspec.DecodeError as error:
        raise Invalid(f"The snapshot {name} has a header that cannot be understood: {error}.") from error
    if header.format > FORMAT:
        raise Invalid(
            f"The snapshot {name} has format {header.format}, written by swarmd {header.swarmd}; this "
            f"version reads up to format {FORMAT}. Use that version."
        )
    return header


def _cut(name: str, size: int) -> str:
    return f"The snapshot {name} is cut off after {size} bytes. Copy it again, or use another one."
