"""The client's end of HTTP/1.0 and 1.1: one request after the other on a connection that may stay."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from swarmd.node.router.client import Launch, Serve
from swarmd.node.router.core import headers, pages
from swarmd.node.router.core.request import Bad, Line, Request, http1
from swarmd.node.router.http import END, Asked, Event, Reading
from swarmd.node.router.talk import NEVER, Lost, Slow, Talk

HEAD_SECONDS = 10.0
"""In which the head of a request must have come in, from its first byte or the connection's beginning on."""
IDLE_SECONDS = 75.0
STALL_SECONDS = 60.0
"""For which a client may not send its body, or not take its answer."""
LINGER_SECONDS = 2.0
PIECE, _BODY_PIECE = 8 << 10, 64 << 10
"""Bytes that are taken apart before others have their turn: requests may be as short as thirty."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Http1(Talk):
    """One client.  ``serve`` answers a request; ``now`` is the clock of the deadlines."""

    def __init__(
        self,
        line: Line,
        serve: Serve,
        launch: Launch,
        now: Callable[[], float],
        gone: Callable[[Talk], None],
    ) -> None:
        super().__init__(Reading(requests=True), gone)
        self._line = line
        self._serve = serve
        self._launch = launch
        self._now = now
        self._request: Request | None = None
        self._task: asyncio.Task[object] | None = None
        self._begun = False
        self._keep = True
        self._body_ended = True
        self._told_to_go_on = False
        self._chunked = False
        self._unsent = b""
        self._behind = b""
        """What came with the rest and has not been looked at."""
        self._stopped = False
        self._lingers = False
        self.closing = False
        """After the present answer there is no other."""
        self.deadline = now() + HEAD_SECONDS

    @property
    def request(self) -> Request:
        assert self._request is not None
        return self._request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._task = self._launch("router client", self.run())

    def data_received(self, data: bytes) -> None:
        if self._lingers:
            return
        if self._request is None and not self._begun:
            self._begun = True
            self.deadline = self._now() + HEAD_SECONDS
        self._behind += data
        if len(self._behind) > PIECE and self.transport is not None:
            self._stopped = True
            self.transport.pause_reading()
        if self.is_silent:
            self._look()

    def eof_received(self) -> bool:
        while self._behind and self._failure is None:
            self._look()
        super().eof_received()
        # Whoever has asked and closed its half still waits for the answer; TLS knows no halves.
        return self._request is not None and not self._line.scheme.endswith("s")

    def connection_lost(self, exc: Exception | None) -> None:
        self._behind = b""
        super().connection_lost(exc)
        if self._task is not None:
            self._task.cancel()

    @property
    def is_waiting(self) -> bool:
        """Between two requests."""
        return self._request is None

    async def next(self) -> Event | None:
        while self._behind and self.is_silent and self._failure is None:
            self._look()
        return await super().next()

    def _look(self) -> None:
        """Take the next piece apart."""
        size = PIECE if self._body_ended else _BODY_PIECE
        data, self._behind = self._behind[:size], self._behind[size:]
        super().data_received(data)
        if self._stopped and not self._held:
            self._resume()

    def _resume(self) -> None:
        if not self._behind:
            self._stopped = False
            super()._resume()

    async def run(self) -> None:
        """Until the connection ends."""
        try:
            while await self._next_request():
                await self._serve(self)
                if not self._after():
                    break
                if self._behind or not self.is_silent:
                    await asyncio.sleep(0)  # who sends many requests at once does not keep others waiting
        except (Bad, Slow) as error:
            self._body_ended = isinstance(error, Slow)  # nobody knows how much nonsense is still to come
            self._refuse(error)
        except Lost:
            pass
        except BaseException:
            self.abort()  # who knows what the client has been told
            raise
        await self._linger()

    async def _next_request(self) -> bool:
        if self.closing:
            return False
        event = await self.next()
        if not isinstance(event, Asked):
            return False
        self._keep = event.keep and not event.odd
        self._body_ended = False
        self.deadline = NEVER
        self._request = http1(
            event.method, event.target, event.version, event.headers, self._line, upgrade=event.upgrade
        )
        self._told_to_go_on = not self._request.expects
        if self._request.length == 0 and await self.next() is END:
            self._body_ended = True
        return True

    def _after(self) -> bool:
        """Whether another request may follow."""
        if not self._keep or not self._body_ended or self.closing or not self.is_open:
            return False
        self._request, self._begun = None, False
        self.deadline = self._now() + IDLE_SECONDS
        return not self.reading.raw

    def _refuse(self, error: Bad | Slow) -> None:
        if isinstance(error, Slow):
            if not self._begun:
                return  # idle: it is closed without a word
            error = Bad(408, "The request did not come in time.")
        fields, body = pages.page(error.status, f"{error.text[:1].upper()}{error.text[1:]}.")
        fields.append((b"connection", b"close"))
        if self.is_open:
            self.write(headers.head(error.status, pages.REASONS.get(error.status, "Error"), fields) + body)

    async def _linger(self) -> None:
        """Close so that the client reads the answer, though it may still be sending."""
        if not self.is_open:
            return
        if self.ended or self._body_ended:
            self.close()
            return
        self._lingers = True
        self.say_no_more()
        self._events.clear()
        self._failure = None
        self.deadline = self._now() + LINGER_SECONDS
        self._behind = b""
        self._resume()
        with contextlib.suppress(Bad, Slow, Lost):
            await self.next()
        self.close()

    # -- the client of an exchange ---------------------------------------------------------------

    async def read(self) -> bytes:
        if self._body_ended:
            return b""
        if not self._told_to_go_on:
            self._told_to_go_on = True
            self.write(_CONTINUE)
        self.deadline = self._now() + STALL_SECONDS
        event = await self.next()
        self.deadline = NEVER
        if event is END:
            self._body_ended = True
            return b""
        if not isinstance(event, bytes):
            raise Lost
        return event

    async def begin(
        self, status: int, reason: str, fields: list[tuple[bytes, bytes]], length: int | None
    ) -> None:
        old = self.request.version == "1.0"
        self._chunked = length is None and not old
        if self._chunked:
            fields.append((b"transfer-encoding", b"chunked"))
        elif length is None:
            self._keep = False
        # A body that nobody reads any more is in the way of the next request.
        if not self._keep or self.closing or not self._body_ended:
            self._keep = False
            fields.append((b"connection", b"close"))
        elif old:
            fields.append((b"connection", b"keep-alive"))
        self._unsent = headers.head(status, reason, fields)

    async def send(self, data: bytes) -> None:
        if data and self._chunked:
            data = headers.chunk(data)
        data, self._unsent = self._unsent + data, b""
        self.write(data)
        if self._full:
            self.deadline = self._now() + STALL_SECONDS
            await self.drain()
            self.deadline = NEVER

    def complete(self) -> None:
        rest = self._unsent + (headers.LAST_CHUNK if self._chunked else b"")
        self._unsent = b""
        if rest:
            self.write(rest)

    def upgraded(self) -> Talk:
        self._keep = False
        self._body_ended = True
        return self

    def expire(self) -> None:
        if self._full:
            self.abort()  # it takes nothing any more
        else:
            super().expire()
