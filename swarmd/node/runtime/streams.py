"""The daemon's ends of a program's standard streams: read on demand, written with back-pressure.

Descriptors are non-blocking and belong to the objects here.  Nothing is read before somebody asks, so a
program whose output nobody takes waits in its own write, as in a shell pipeline.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from swarmd.model.errors import Refused

CHUNK = 32 * 1024


class Output:
    """Reads one or two streams.  ``streams`` maps descriptors to stream numbers (1 stdout, 2 stderr)."""

    def __init__(self, streams: Mapping[int, int]) -> None:
        self._streams = dict(streams)
        self._ready = asyncio.Event()
        self._deadline: float | None = None

    async def read(self) -> tuple[int, bytes] | None:
        """A chunk and its stream; None when every stream has ended."""
        while self._streams:
            piece = self._take()
            if piece is not None:
                return piece
            if self._streams and not await self._more():
                self.close()
        return None

    def end_within(self, seconds: float) -> None:
        """The program has ended: others may hold its streams open, but are waited for no longer than this."""
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._ready.set()

    def _take(self) -> tuple[int, bytes] | None:
        for fd, stream in list(self._streams.items()):
            try:
                data = os.read(fd, CHUNK)
            except BlockingIOError:
                continue
            except OSError:  # EIO: the last program has let go of the terminal
                data = b""
            if data:
                self._streams[fd] = self._streams.pop(fd)  # the other one is next
                return stream, data
            self._drop(fd)
        return None

    async def _more(self) -> bool:
        """Wait for a stream to become readable; False when the time is over."""
        loop = asyncio.get_running_loop()
        self._ready.clear()
        fds = list(self._streams)
        for fd in fds:
            loop.add_reader(fd, self._ready.set)
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._ready.wait()
        except TimeoutError:
            return False
        finally:
            for fd in fds:
                if fd in self._streams:
                    loop.remove_reader(fd)
        return True

    def _drop(self, fd: int) -> None:
        asyncio.get_running_loop().remove_reader(fd)
        del self._streams[fd]
        os.close(fd)

    def close(self) -> None:
        """A reader that waits is woken and hears the end."""
        for fd in list(self._streams):
            self._drop(fd)
        self._ready.set()


class Input:
    """Writes one stream; -1 is one that nobody reads."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._ready = asyncio.Event()

    async def write(self, data: bytes) -> None:
        """All of it; :class:`Refused` when nobody will read it."""
        rest = memoryview(data)
        while rest:
            if self._fd < 0:
                raise Refused("the program's standard input is closed")
            try:
                rest = rest[os.write(self._fd, rest[:CHUNK]) :]
            except BlockingIOError:
                await self._writable()
            except OSError:
                self.close()

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        self._ready.clear()
        fd = self._fd
        loop.add_writer(fd, self._ready.set)
        try:
            await self._ready.wait()
        finally:
            if self._fd == fd:
                loop.remove_writer(fd)

    def close(self) -> None:
        """The program reads end of file, once everybody who can write has closed."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._ready.set()
