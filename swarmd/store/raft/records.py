"""The bytes of a write-ahead log: which records are whole, where a torn tail begins, what is corrupt.

A file is a header and then records; one record is one group commit::

    header:  b"SWRMLOG1" | epoch u64 | crc32 of both
    record:  magic u32 | length u32 | sequence u64 | crc of the record before u32 | crc32 u32 | payload

The payload is sealed, and bound to its epoch, its number and the record before it.  Checksums are of what is
on the disk: what a crash left is told from damage without a key.

Pure: bytes in, bytes and decisions out.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import msgspec

from swarmd.model.errors import SwarmError
from swarmd.security.sealing import HEAD_BYTES, PLAIN, CannotOpen, Sealer, key_id_of

_FILE = struct.Struct(">8sQI")
_FILE_MAGIC = b"SWRMLOG1"
_HEAD = struct.Struct(">IIQI")
_CRC = struct.Struct(">I")
_PLACE = struct.Struct(">3sQQI")
_MAGIC = 0x5F57A10D
_MAGIC_BYTES = _MAGIC.to_bytes(4, "big")
_SECTOR = 512
HEADER_SIZE = _FILE.size
RECORD_OVERHEAD = _HEAD.size + _CRC.size


class Entry(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    """A log entry was appended at ``index`` (1 is the implicit first one)."""

    index: int
    term: int
    command: bytes


class Hard(msgspec.Struct, frozen=True, array_like=True, tag="h"):
    """The current term, and who got this member's vote in it."""

    term: int
    vote: str | None


class Truncate(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """Every entry from ``first`` on was taken back."""

    first: int


class Marker(msgspec.Struct, frozen=True, array_like=True, tag="m"):
    """The first item of a log whose epoch began here by a roll: its base, but for the state.

    The state is what the log of the epoch before leads to, ``sealed`` being the index of the seal in it.
    Fields are those of :class:`~swarmd.store.raft.snapshots.Base`.
    """

    epoch: int
    members: dict[str, str]
    applied: int
    sessions: list[tuple[str, int]]
    sealed: int


Item = Entry | Hard | Truncate | Marker

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Item])


class Recovered(msgspec.Struct, frozen=True):
    """What a log file holds: its items in order, where good bytes end, and how to go on from there."""

    items: list[Item]
    good_bytes: int
    sequence: int
    crc: int


class Corrupt(SwarmError):
    """A log or snapshot is damaged where no crash of ours can damage it."""


def file_header(epoch: int) -> bytes:
    """The first bytes of the log of ``epoch``."""
    body = _FILE_MAGIC + epoch.to_bytes(8, "big")
    return body + _CRC.pack(zlib.crc32(body))


def encode_record(
    items: Sequence[Item], sequence: int, previous: int, *, epoch: int = 0, sealer: Sealer = PLAIN
) -> tuple[bytes, int]:
    """One record and its checksum, to be given as ``previous`` for the next one."""
    payload = sealer.seal(_place(epoch, sequence, previous), _encoder.encode(items))
    head = _HEAD.pack(_MAGIC, len(payload), sequence, previous)
    crc = zlib.crc32(payload, zlib.crc32(head))
    return head + _CRC.pack(crc) + payload, crc


def recover(data: bytes, epoch: int, name: str, sealer: Sealer = PLAIN) -> Recovered:
    """Read a log file's bytes.  A torn tail is left out; damage anywhere else raises Corrupt."""
    if data[:HEADER_SIZE] != file_header(epoch):
        raise Corrupt(_damaged(name, 0, "its header is not that of this epoch's log"))
    offset, sequence, crc = HEADER_SIZE, 0, 0
    items: list[Item] = []
    while offset < len(data):
        record = _record_at(data, offset)
        if record is None or record[:2] != (sequence + 1, crc):
            _check_torn(data, offset, sequence, name)
            break
        place = _place(epoch, sequence + 1, crc)
        sequence, _, crc, end = record
        try:
            payload = sealer.open(place, data[offset + RECORD_OVERHEAD : end], epoch=epoch)
        except CannotOpen as error:
            raise Corrupt(_damaged(name, offset, f"a record cannot be opened ({error})")) from error
        items += _decode(payload, name, offset)
        offset = end
    return Recovered(items, offset, sequence, crc)


def keys_used(data: bytes) -> set[int]:
    """Ids of the data keys that sealed the records of a log file, up to what is not whole."""
    used: set[int] = set()
    offset = HEADER_SIZE
    while offset + RECORD_OVERHEAD <= len(data):
        magic, length, _, _ = _HEAD.unpack_from(data, offset)
        start = offset + RECORD_OVERHEAD
        if magic != _MAGIC:
            break
        used.add(key_id_of(data[start : start + HEAD_BYTES]))
        offset = start + length
    return used


def _place(epoch: int, sequence: int, previous: int) -> bytes:
    return _PLACE.pack(b"log", epoch, sequence, previous)


def _record_at(data: bytes, offset: int) -> tuple[int, int, int, int] | None:
    """(sequence, previous crc, crc, end) of the whole and unharmed record at ``offset``."""
    if len(data) - offset < RECORD_OVERHEAD:
        return None
    magic, length, sequence, previous = _HEAD.unpack_from(data, offset)
    start = offset + RECORD_OVERHEAD
    if magic != _MAGIC or len(data) - start < length:
        return None
    (crc,) = _CRC.unpack_from(data, offset + _HEAD.size)
    head = data[offset : offset + _HEAD.size]
    if zlib.crc32(data[start : start + length], zlib.crc32(head)) != crc:
        return None
    return sequence, previous, crc, start + length


def _check_torn(data: bytes, offset: int, sequence: int, name: str) -> None:
    """A crash leaves a short or zero-filled last record; anything else that is wrong is damage."""
    found = data.find(_MAGIC_BYTES, offset + 1)
    while found != -1:
        later = _record_at(data, found)
        if later is not None and later[0] > sequence:
            raise Corrupt(_damaged(name, offset, "whole records follow the damaged one"))
        found = data.find(_MAGIC_BYTES, found + 1)
    if not _begins_like_a_record(data, offset):
        raise Corrupt(_damaged(name, offset, "what should be the last record does not begin like one"))
    if len(data) - offset < RECORD_OVERHEAD:
        return
    magic, length, number, previous = _HEAD.unpack_from(data, offset)
    end = offset + RECORD_OVERHEAD + length
    if magic == _MAGIC and end <= len(data) and not _has_empty_sector(data, offset, end):
        raise Corrupt(_damaged(name, offset, "the last record is complete but its checksum is wrong"))
    there = len(data) - offset - RECORD_OVERHEAD
    whole = data[:offset] + _HEAD.pack(_MAGIC, there, number, previous) + data[offset + _HEAD.size :]
    if end > len(data) and _record_at(whole, offset) is not None:
        raise Corrupt(_damaged(name, offset, "the last record is complete but its length is wrong"))


def _begins_like_a_record(data: bytes, offset: int) -> bool:
    """Of the magic number each sector's part is right, or nothing of the record is in that sector."""
    boundary = (offset // _SECTOR + 1) * _SECTOR
    cut = boundary - offset
    here, there = data[offset:boundary], data[boundary : boundary + _SECTOR]
    return (_MAGIC_BYTES[:cut].startswith(here[:4]) or not any(here)) and (
        cut >= len(_MAGIC_BYTES) or _MAGIC_BYTES[cut:].startswith(there[: 4 - cut]) or not any(there)
    )


def _has_empty_sector(data: bytes, start: int, end: int) -> bool:
    """Disks write sectors: one that never arrived reads as zeros."""
    while start < end:
        stop = min(end, (start // _SECTOR + 1) * _SECTOR)
        if not any(data[start:stop]):
            return True
        start = stop
    return False


def _decode(payload: bytes, name: str, offset: int) -> list[Item]:
    try:
        return _decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise Corrupt(_damaged(name, offset, f"a record cannot be understood ({error})")) from error


def _damaged(name: str, offset: int, why: str) -> str:
    return (
        f"The log {name} is damaged at byte {offset}: {why}. Refusing to start, since entries that were "
        "promised to other managers may be lost. Remove this manager from the swarm and join it again."
    )
