"""The file of the audit log: lines appended in order by a thread, rotated by size, read back from its end.

Whoever appends never waits.  A disk that takes nothing keeps the lines waiting, as many as there is room for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncGenerator
from pathlib import Path

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery, Report
from swarmd.model.errors import Unavailable

FILE_BYTES, FILES = 10 << 20, 5
MOST_WAITING = 10_000
"""Lines kept while the disk takes none, and those a follower may be behind."""

RETRY, CLOSE_LIMIT = 5.0, 5.0
"""Seconds."""


class _Reader:
    """Somebody who reads: the past as one answer, then lines."""

    def __init__(self, *, tail: int, follow: bool) -> None:
        self.tail = tail
        self.follow = follow
        self.past: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue(MOST_WAITING)

    def answer(self, found: list[bytes] | Exception) -> None:
        if self.past.done():
            return  # it went away
        if isinstance(found, Exception):
            self.past.set_exception(found)
        else:
            self.past.set_result(found)

    def take(self, line: bytes) -> bool:
        """False: it reads too slowly, and is told so."""
        if self.lines.full():
            self.lines.get_nowait()
            self.lines.put_nowait(None)
            return False
        self.lines.put_nowait(line)
        return True


class AuditFile:
    """``path`` and its older parts, ``path.1`` the newest of them."""

    def __init__(
        self, path: Path, clock: Clock, report: Report, *, file_bytes: int = FILE_BYTES, files: int = FILES
    ) -> None:
        self._path = path
        self._clock = clock
        self._file_bytes = file_bytes
        self._files = files
        self._waiting: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._ended = asyncio.Event()
        self._closing = False
        self._readers: deque[_Reader] = deque()
        self._followers: set[_Reader] = set()
        self._nursery = Nursery(report)
        self._trouble = ""
        self._lost = 0

    def append(self, line: bytes) -> None:
        """A line (without its end) is on its way to the disk."""
        if len(self._waiting) >= MOST_WAITING:
            self._lost += 1
            return
        self._waiting.append(line)
        self._news.set()

    def problems(self) -> list[str]:
        """Sentences for a person about what is not recorded."""
        found = []
        if self._trouble:
            found.append(
                f"the audit log {self._path} cannot be written: {self._trouble}: free or mend the disk"
            )
        if self._lost:
            found.append(f"{self._lost} calls are missing from the audit log {self._path}: there was no room")
        return found

    def start(self) -> None:
        """Write from now on."""
        self._nursery.start("audit log", self._run())

    async def close(self) -> None:
        """Write what is waiting, if the disk takes it, and end."""
        self._closing = True
        self._news.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_LIMIT):
                await self._ended.wait()
        await self._nursery.close()

    async def lines(self, *, tail: int, follow: bool) -> AsyncGenerator[bytes, None]:
        """The last ``tail`` lines (below 0: all), then, to follow, each as it is written.

        Raises Unavailable when the file cannot be read, or a follower is too slow.
        """
        reader = _Reader(tail=tail, follow=follow)
        self._readers.append(reader)
        self._news.set()
        try:
            for line in await reader.past:
                yield line
            while follow:
                following = await reader.lines.get()
                if following is None:
                    raise Unavailable("the audit log is written faster than this command reads it")
                yield following
        finally:
            self._followers.discard(reader)

    async def _run(self) -> None:
        """The one place that touches the disk: no write is beside another, or torn by a reader's end."""
        try:
            while not self._closing or (self._waiting and not self._trouble):
                await self._news.wait()
                self._news.clear()
                await self._write_waiting()
                while self._readers:
                    await self._serve(self._readers.popleft())
        finally:
            self._ended.set()

    async def _write_waiting(self) -> None:
        lines = list(self._waiting)
        if not lines:
            return
        try:
            await asyncio.to_thread(self._write, lines)
        except OSError as error:
            if not self._trouble:
                self._nursery.start("audit log again", self._try_again())
            self._trouble = error.strerror or str(error)
            return
        self._trouble = ""
        for line in lines:
            self._waiting.popleft()
            for reader in list(self._followers):
                if not reader.take(line):
                    self._followers.discard(reader)

    async def _try_again(self) -> None:
        await self._clock.sleep(RETRY)
        while self._trouble:
            self._news.set()
            await self._clock.sleep(RETRY)

    async def _serve(self, reader: _Reader) -> None:
        try:
            found = await asyncio.to_thread(self._read, reader.tail)
        except OSError as error:
            reader.answer(Unavailable(f"the audit log {self._path} cannot be read: {error.strerror}"))
            return
        reader.answer(found)
        if reader.follow:
            self._followers.add(reader)

    # -- on the disk, in a thread ----------------------------------------------------------------

    def _write(self, lines: list[bytes]) -> None:
        """All of them or none.  Raises OSError."""
        data = b"".join(line + b"\n" for line in lines)
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size and size + len(data) > self._file_bytes:
                self._rotate()
                os.close(fd)
                fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
                size = 0
            try:
                _write_all(fd, data)
                os.fdatasync(fd)
            except OSError:
                os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)

    def _rotate(self) -> None:
        for number in range(self._files - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self._part(number - 1), self._part(number))

    def _part(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path

    def _read(self, tail: int) -> list[bytes]:
        found: deque[bytes] = deque()
        for number in range(self._files):
            if 0 <= tail <= len(found):
                break
            try:
                lines = self._part(number).read_bytes().splitlines()
            except FileNotFoundError:
                break
            found.extendleft(reversed(lines))
        return list(found)[len(found) - tail :] if 0 <= tail < len(found) else list(found)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
