"""Questions over TCP: two bytes of length and a message, as many as the client likes, in any order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from swarmd.node.dns.core.budget import Budget

Answer = Callable[[bytes, Callable[[bytes], None]], None]
"""(message, where the answer goes, now or later)"""

IDLE_SECONDS = 10.0
_LARGEST_QUESTION = 4096
_AT_ONCE = 32  # then others get their turn
_MOST_OPEN = 32
"""Questions of one connection that may wait for somebody outside."""


class Stream(asyncio.Protocol):
    """One client's connection.  ``ended`` is called once, with this."""

    def __init__(self, answer: Answer, ended: Callable[[Stream], None], budget: Budget) -> None:
        self._answer = answer
        self._ended = ended
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._data = bytearray()
        self._open = 0
        self._full = False
        self._last = False
        self._working = False
        self._idle: asyncio.TimerHandle | None = None
        self._later: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        self._data += data
        self._work()

    def eof_received(self) -> bool:
        """A client may send all its questions, say so, and wait: we close after the last answer."""
        self._last = True
        self._work()
        return True

    def pause_writing(self) -> None:
        self._full = True
        self._work()

    def resume_writing(self) -> None:
        self._full = False
        self._work()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._idle, self._later):
            if timer:
                timer.cancel()
        self._transport = None
        self._ended(self)

    def close(self) -> None:
        """End the connection at once."""
        if self._transport:
            self._transport.abort()

    def _work(self) -> None:
        """Take questions while their answers have room; read on only then."""
        if self._working:
            return
        self._working = True
        for _ in range(_AT_ONCE):
            if not (self._transport and self._has_space() and self._may_ask()):
                break
            if (message := self._next()) is None:
                break
            self._budget.spend()
            self._open += 1
            self._answer(message, self._send)
        self._working = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._has_space() and (self._is_next_there() or not self._may_ask()):
            self._work_later()
        if self._last:
            if not self._open and not self._full and not self._is_next_there():
                transport.close()
        elif self._later is None and self._has_space():
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _work_later(self) -> None:
        """Others first; and none before the container may ask again."""
        if self._later is None:
            at = self._loop.time() if self._may_ask() else self._budget.ends
            self._later = self._loop.call_at(at, self._work_now)

    def _work_now(self) -> None:
        self._later = None
        self._work()

    def _has_space(self) -> bool:
        """Whether answers can be sent, or wait here."""
        return not self._full and self._open < _MOST_OPEN

    def _may_ask(self) -> bool:
        return self._budget.left(self._loop.time()) > 0

    def _is_next_there(self) -> bool:
        return len(self._data) >= 2 and len(self._data) >= 2 + int.from_bytes(self._data[:2], "big")

    def _next(self) -> bytes | None:
        if len(self._data) < 2:
            return None
        size = int.from_bytes(self._data[:2], "big")
        if size > _LARGEST_QUESTION:
            self.close()
            return None
        if len(self._data) < 2 + size:
            return None
        message = bytes(self._data[2 : 2 + size])
        del self._data[: 2 + size]
        return message

    def _send(self, message: bytes) -> None:
        """An answer; empty: there is none."""
        self._open -= 1
        if self._transport is None:
            return
        if message:
            self._transport.write(len(message).to_bytes(2, "big") + message)
        self._wait()
        self._work()

    def _wait(self) -> None:
        if self._idle:
            self._idle.cancel()
        self._idle = self._loop.call_later(IDLE_SECONDS, self.close)
