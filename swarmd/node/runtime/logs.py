"""Reads a container's log while it is written: the last lines, everything since a time, and what follows."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from swarmd.node.runtime.core import logrecord
from swarmd.node.runtime.core.logformat import LogLine, Record, decode, previous
from swarmd.node.runtime.watching import Watch

__all__ = ["LogLine", "read_logs"]

_CHUNK = 256 * 1024


async def read_logs(
    container_dir: Path, *, tail: int | None = None, since: float | None = None, follow: bool = False
) -> AsyncIterator[LogLine]:
    """Lines in the order they were written, across rotated files.

    ``tail`` starts at the last N lines, ``since`` (seconds since 1970) leaves out what is older.  With
    ``follow`` it goes on until the container's output has ended and is read, or its directory is removed.
    """
    directory = container_dir / "log"
    reader = _Reader(directory)
    try:
        for line in await asyncio.to_thread(reader.last, tail) if tail is not None else ():
            if since is None or line.time >= since:
                yield line
        async for record in reader.records(follow=follow):
            for line in record.lines():
                if since is None or line.time >= since:
                    yield line
    finally:
        reader.close()


class _Reader:
    """A position in the sequence of files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._number = 0
        self._fd = -1
        self._rest = b""
        self._watch: Watch | None = None
        self._ended = False

    def last(self, count: int) -> list[LogLine]:
        """The last ``count`` lines; the position is behind them."""
        found: list[LogLine] = []  # from the end
        newest: Record | None = None
        numbers = self._numbers()
        for position, number in enumerate(reversed(numbers)):
            try:
                fd = os.open(self._directory / logrecord.file_name(number), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                break
            end = _intact_end(fd)
            if position == 0:
                self._number, self._fd = number, os.dup(fd)
                os.lseek(self._fd, end, os.SEEK_SET)
            for record in _backwards(fd, end):
                if len(found) >= count:
                    break
                newest = newest or record
                found += reversed(list(record.lines()))
            os.close(fd)
            if len(found) >= count:
                break
        self._ended = newest is not None and newest.stream == logrecord.END
        return found[:count][::-1]

    async def records(self, *, follow: bool) -> AsyncIterator[Record]:
        if follow:
            self._watch = Watch(self._directory)
        while True:
            newest = self._numbers()
            for record in self._read():
                self._ended = record.stream == logrecord.END  # more follows when the program ran again
                yield record
            if not self._directory.exists():
                return
            if self._advance(newest):
                continue
            if self._ended or self._watch is None:
                return
            await self._watch.changed()

    def _read(self) -> Iterator[Record]:
        while self._fd >= 0:
            data = os.read(self._fd, _CHUNK)
            if not data:
                return
            records, used = decode(self._rest + data)
            self._rest = (self._rest + data)[used:]
            yield from records

    def _advance(self, numbers: list[int]) -> bool:
        """To the next file.  ``numbers`` were listed before the present file was read to its end, so
        what is higher was made after the last write to it."""
        later = [number for number in numbers if number > self._number]
        for number in later:
            try:
                fd = os.open(self._directory / logrecord.file_name(number), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:  # rotated away while we looked
                continue
            if self._fd >= 0:
                os.close(self._fd)
            self._number, self._fd, self._rest = number, fd, b""
            return True
        return False

    def _numbers(self) -> list[int]:
        try:
            return logrecord.file_numbers(os.listdir(self._directory))
        except FileNotFoundError:
            return []

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        if self._watch is not None:
            self._watch.close()


def _intact_end(fd: int) -> int:
    """The end of the last whole record: the pump may be in the middle of a write."""
    end = os.fstat(fd).st_size
    for record_length in _lengths(fd, end):
        if record_length:
            return end
    # The trailer at the end is none: find the last good record from the front.
    return logrecord.intact(os.pread(fd, end, 0))


def _lengths(fd: int, end: int) -> Iterator[int]:
    size = logrecord.TRAILER.size
    if end >= logrecord.OVERHEAD:
        length = previous(os.pread(fd, size, end - size))
        header = os.pread(fd, logrecord.HEADER.size, end - length) if 0 < length <= end else b""
        whole = len(header) == logrecord.HEADER.size
        yield length if whole and logrecord.HEADER.unpack(header)[2] + logrecord.OVERHEAD == length else 0


def _backwards(fd: int, end: int) -> Iterator[Record]:
    while end > 0:
        length = next(_lengths(fd, end), 0)
        if not length:
            return
        yield from decode(os.pread(fd, length, end - length))[0]
        end -= length
