"""One connection that speaks HTTP/1.1, seen from either end: events in a short queue, writes held back.

What comes in faster than it is taken stops the socket from being read; a body is never held as a whole.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol, cast

from swarmd.kit.supervise import Report, failure
from swarmd.node.router.core.request import Bad
from swarmd.node.router.http import END, Event, Reading

_HIGH, _LOW = 256 << 10, 64 << 10
_MOST_EVENTS = 512
NEVER = float("inf")


class Lost(Exception):
    """The other side has gone, in the middle of something."""


class Slow(Exception):
    """The other side did not come up with what it owed in time."""


class Talk(asyncio.Protocol):
    """``gone`` is called once, when the connection has ended.  ``deadline``: when :meth:`expire` is to be
    called, by the clock of whoever sweeps."""

    def __init__(self, reading: Reading, gone: Callable[[Talk], None]) -> None:
        self.reading = reading
        self.transport: asyncio.Transport | None = None
        self.deadline = NEVER
        self.ended = False
        """The other side says no more."""
        self._gone = gone
        self._events: deque[Event] = deque()
        self._queued = 0
        self._held = False
        self._failure: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._full = False
        self._writers: list[asyncio.Future[None]] = []

    # -- what the loop calls ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        keep_alive(transport)

    def data_received(self, data: bytes) -> None:
        try:
            events = self.reading.feed(data)
        except Bad as error:
            self.fail(error)
            return
        self._take(events)

    def eof_received(self) -> bool:
        self.ended = True
        try:
            self._take(self.reading.end())
        except Bad:
            self.fail(Lost())
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended and exc is None:
            self.eof_received()
        elif not self.ended:  # reset: what has no other end than the connection's is not complete
            self.ended = True
            self.fail(Lost())
        self.transport = None
        self._wake()
        for writer in self._writers:
            if not writer.done():
                writer.set_result(None)
        self._gone(self)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        for writer in self._writers:
            if not writer.done():
                writer.set_result(None)

    # -- what is done with it --------------------------------------------------------------------

    async def next(self) -> Event | None:
        """What came in; None when there will be no more.  Raises Bad, Lost, Slow."""
        while not self._events:
            if self._failure is not None:
                raise self._failure
            if self.ended or self.transport is None:
                return None
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self.pop()

    def pop(self) -> Event | None:
        """What is there already."""
        if not self._events:
            return None
        event = self._events.popleft()
        if isinstance(event, bytes):
            self._queued -= len(event)
        if self._held and self._queued <= _LOW and len(self._events) < _MOST_EVENTS // 2:
            self._held = False
            self._resume()
        return event

    def body_is_here(self) -> bool:
        """Whether the rest of the message has come in."""
        return any(event is END for event in self._events)

    @property
    def is_silent(self) -> bool:
        """Nothing is there that nobody took."""
        return not self._events

    @property
    def is_quiet(self) -> bool:
        """Nothing has come in that nobody took, and the other side is there."""
        return not self._events and not self.ended and self._failure is None and self.is_open

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def write(self, data: bytes) -> None:
        """Raises Lost."""
        if self.transport is None or self.transport.is_closing():
            raise Lost
        self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the other side has taken what was written, but for a little.  Raises Lost."""
        if self._full and self.transport is not None:
            writer = asyncio.get_running_loop().create_future()
            self._writers.append(writer)
            try:
                await writer
            finally:
                self._writers.remove(writer)
        if self.transport is None:
            raise Lost

    def say_no_more(self) -> None:
        """Half-close, where that can be done."""
        if self.transport is not None and not self.transport.is_closing():
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:
                self.transport.close()

    def close(self) -> None:
        """After what is still to be written."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """At once: the other side sees that something was cut off."""
        if self.transport is not None:
            self.transport.abort()

    def fail(self, error: Exception) -> None:
        """Whoever waits for the other side gets ``error``, after what came in before."""
        self._failure = error
        self._wake()

    def expire(self) -> None:
        """The deadline has passed."""
        self.deadline = NEVER
        self.fail(Slow())

    def _take(self, events: list[Event]) -> None:
        if not events:
            return
        self._events.extend(events)
        self._queued += sum(len(event) for event in events if isinstance(event, bytes))
        if not self._held and (self._queued > _HIGH or len(self._events) > _MOST_EVENTS):
            self._held = True
            if self.transport is not None:
                self.transport.pause_reading()
        self._wake()

    def _resume(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Waiting(Protocol):
    """A connection that has a deadline."""

    deadline: float

    def expire(self) -> None: ...

    def abort(self) -> None: ...


def expire(several: Iterable[Waiting], now: float, report: Report) -> None:
    """End those whose deadline has passed.  One that fails in it is cut off; the others' turn comes too."""
    for one in [one for one in several if one.deadline <= now]:
        error = failure(one.expire)
        if error is not None:
            one.deadline = NEVER
            one.abort()
            report("router connection", error)


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """A silent connection may stay for as long as it likes; one whose other end is gone may not."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
