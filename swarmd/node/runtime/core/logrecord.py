"""The format of container logs: chunks of whole lines with one time stamp, readable from both ends.

A record is ``u64 nanoseconds, u8 stream, u32 length, data, u32 length of the whole record`` (little
endian).  The trailing length lets a reader walk backwards for "the last N lines".  ``data`` is one or more
lines including their newlines; the last one may lack it (a very long line in pieces, or the end).
Stream 0 with no data marks the end of the container's output.  The log pump loads this file, so it is light.
"""

from __future__ import annotations

import struct

END, STDOUT, STDERR = 0, 1, 2
PIECE = 16 * 1024
HEADER = struct.Struct("<QBI")
TRAILER = struct.Struct("<I")
OVERHEAD = HEADER.size + TRAILER.size
_SUFFIX = ".log"


def encode(time: int, stream: int, data: bytes) -> bytes:
    return b"".join((HEADER.pack(time, stream, len(data)), data, TRAILER.pack(len(data) + OVERHEAD)))


def complete(buffer: bytes, start: int = 0) -> int:
    """Where the record at ``start`` ends; ``start`` itself if it is not all there."""
    if len(buffer) - start < OVERHEAD:
        return start
    end = start + OVERHEAD + int(HEADER.unpack_from(buffer, start)[2])
    return end if end <= len(buffer) else start


def intact(buffer: bytes) -> int:
    """How many leading bytes are whole records: where to cut a file whose writer was killed."""
    start, end = 0, complete(buffer)
    while end != start:
        start, end = end, complete(buffer, end)
    return start


def has_ended(tail: bytes) -> bool:
    """Whether a file is at its end; ``tail``: its last :data:`OVERHEAD` bytes."""
    end = encode(0, END, b"")
    return len(tail) == len(end) and tail[8:] == end[8:]  # but for the time


def file_name(number: int) -> str:
    return f"{number:08d}{_SUFFIX}"


def file_numbers(names: list[str]) -> list[int]:
    """The numbers of the log files among ``names``, oldest first."""
    stems = [name[: -len(_SUFFIX)] for name in names if name.endswith(_SUFFIX)]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def whole_lines(data: bytes) -> int:
    """How much of ``data`` may be written while its last line goes on: a very long one goes in pieces."""
    end = data.rfind(b"\n") + 1
    return len(data) if len(data) - end >= PIECE else end
