"""What a reader makes of log records (``logrecord``): lines, forwards and backwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from swarmd.node.runtime.core.logrecord import HEADER, OVERHEAD, STDERR, STDOUT, TRAILER, complete

Stream = Literal["stdout", "stderr"]
_NAMES: dict[int, Stream] = {STDOUT: "stdout", STDERR: "stderr"}


class LogLine(msgspec.Struct, frozen=True):
    """``time`` in seconds since 1970; ``data`` with its newline, if it had one."""

    time: float
    stream: Stream
    data: bytes


class Record(msgspec.Struct, frozen=True):
    """One chunk: ``time`` in nanoseconds since 1970."""

    time: int
    stream: int
    data: bytes

    def lines(self) -> Iterator[LogLine]:
        name = _NAMES.get(self.stream)
        if name is not None:
            for line in _split(self.data):
                yield LogLine(self.time / 1e9, name, line)


def decode(buffer: bytes) -> tuple[list[Record], int]:
    """The complete records, and where the first incomplete one begins."""
    records = []
    start, end = 0, complete(buffer)
    while end != start:
        time, stream, _ = HEADER.unpack_from(buffer, start)
        records.append(Record(time, stream, buffer[start + HEADER.size : end - TRAILER.size]))
        start, end = end, complete(buffer, end)
    return records, start


def previous(trailer: bytes) -> int:
    """The length of the record that ends with ``trailer`` (4 bytes); 0 if it cannot be one."""
    length = int(TRAILER.unpack(trailer)[0])
    return length if length >= OVERHEAD else 0


def _split(data: bytes) -> list[bytes]:
    """Only at newlines: a carriage return is part of a line."""
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return [line for line in lines if line]
