"""The one door to a parser of HTTP/1.1: llhttp, as aiohttp carries it.  Bytes go in, events come out.

Requests are read strictly: no folded headers, no bare line feeds, no length beside chunks.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, HttpResponseParser
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from swarmd.node.router.core.request import Bad, Headers

_LINE, _FIELDS, _HEAD = 16 << 10, 128, 64 << 10
_NEVER = 1 << 30
"""Bytes after which the parser would stop by itself: what it has is taken out after each read instead."""


class End(msgspec.Struct, frozen=True):
    """The message is complete."""


END: Final = End()


class Asked(msgspec.Struct, frozen=True):
    """The head of a request.  ``odd``: what follows it on this connection cannot be told for sure."""

    method: str
    target: str
    version: str
    headers: Headers
    keep: bool
    upgrade: bool
    odd: bool


class Answered(msgspec.Struct, frozen=True):
    """The head of an answer.  ``keep``: the connection can be used again."""

    status: int
    reason: str
    headers: Headers
    keep: bool
    chunked: bool


Event = Asked | Answered | bytes | End


class Reading:
    """One direction of one connection.  After an upgrade ``raw`` is set and bytes are passed as they are."""

    def __init__(self, *, requests: bool, bodies: bool = True) -> None:
        """``bodies`` False: the answer is to HEAD."""
        loop = asyncio.get_running_loop()
        self._requests = requests
        self._body: Any = None
        self._waiting = 0
        self.raw = False
        make: Any = HttpRequestParser if requests else HttpResponseParser
        self._parser: Any = make(
            BaseProtocol(loop),
            loop,
            _NEVER,
            max_line_size=_LINE,
            max_field_size=_LINE,
            max_headers=_FIELDS,
            response_with_body=bodies,
            read_until_eof=not requests,
            auto_decompress=False,
        )

    def feed(self, data: bytes) -> list[Event]:
        """Raises Bad for what is not HTTP."""
        if self.raw:
            return [data]
        try:
            messages, upgraded, rest = self._parser.feed_data(data)
            events: list[Event] = []
            self._take_body(events)
            for message, body in messages:
                events.append(self._asked(message) if self._requests else self._answered(message))
                self._body = body
                self._take_body(events)
        except LineTooLong as error:
            raise Bad(431, "a line of the request's head is too long") from error
        except (HttpProcessingError, asyncio.InvalidStateError, ValueError, RuntimeError) as error:
            raise Bad(400, "this is not HTTP/1.1 as every server reads it") from error
        self._waiting = 0 if events or self._body is not None else self._waiting + len(data)
        if self._waiting > _HEAD:
            raise Bad(431, "the head of the request is too long")
        if upgraded:
            self.raw = True
            if rest:
                events.append(rest)
        return events

    def end(self) -> list[Event]:
        """The other side has closed.  Raises Bad when that was in the middle of a message."""
        if self.raw or self._body is None:
            return []
        events: list[Event] = []
        try:
            self._parser.feed_eof()
            self._take_body(events)
        except (HttpProcessingError, ValueError, RuntimeError) as error:
            raise Bad(400, "the connection ended in the middle of a message") from error
        return events

    def _take_body(self, events: list[Event]) -> None:
        if self._body is None:
            return
        data = self._body.read_nowait(-1)
        if data:
            events.append(data)
        if self._body.is_eof():
            self._body = None
            events.append(END)

    def _asked(self, message: Any) -> Asked:
        upgrade = bool(message.upgrade) and message.headers.get("upgrade", "").lower() == "websocket"
        return Asked(
            message.method,
            message.path,
            f"{message.version.major}.{message.version.minor}",
            message.raw_headers,
            not message.should_close,
            upgrade,
            bool(message.upgrade),
        )

    def _answered(self, message: Any) -> Answered:
        return Answered(
            message.code,
            message.reason,
            message.raw_headers,
            not message.should_close,
            bool(message.chunked),
        )
