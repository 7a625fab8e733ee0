"""One request of an HTTP/2 connection, as an exchange's client."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from swarmd.node.router.core.request import Request
from swarmd.node.router.http1 import STALL_SECONDS
from swarmd.node.router.talk import Lost, Slow, Talk

if TYPE_CHECKING:
    from swarmd.node.router.http2 import Http2


class Stream:
    """``number``: the connection's for it."""

    def __init__(self, connection: Http2, number: int, request: Request) -> None:
        self.request = request
        self._connection = connection
        self._number = number
        self._pieces: deque[tuple[bytes, int]] = deque()
        self._ended = request.length == 0
        self._failure: Exception | None = None
        self._news = asyncio.Event()
        self._begun = False
        self.answered = False
        self.task: asyncio.Task[object] | None = None

    async def read(self) -> bytes:
        while not self._pieces:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return b""
            await self._wait(Slow())
        data, size = self._pieces.popleft()
        self._connection.taken(self._number, size)
        return data

    def body_is_here(self) -> bool:
        return self._ended

    async def begin(
        self, status: int, reason: str, fields: list[tuple[bytes, bytes]], length: int | None
    ) -> None:
        self._begun = True
        lower = [(name.lower(), value) for name, value in fields]
        self._connection.head(self._number, [(b":status", b"%d" % status), *lower])

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            room = self._connection.room(self._number)
            if room:
                self._connection.body(self._number, bytes(view[:room]))
                view = view[room:]
            else:
                await self._wait(Lost())
                if self._failure is not None:
                    raise self._failure

    def complete(self) -> None:
        self.answered = True
        self._connection.end(self._number)

    def abort(self) -> None:
        self._connection.reset(self._number)

    def upgraded(self) -> Talk:
        raise Lost

    # -- what the connection tells ---------------------------------------------------------------

    def feed(self, data: bytes, size: int) -> None:
        """``size``: bytes of the window that it took."""
        self._pieces.append((data, size))
        self._news.set()

    def feed_end(self) -> None:
        self._ended = True
        self._news.set()

    def fail(self, error: Exception) -> None:
        self._failure = error
        self._news.set()

    def wake(self) -> None:
        self._news.set()

    async def _wait(self, late: Exception) -> None:
        self._news.clear()
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await self._news.wait()
        except TimeoutError:
            raise late from None
