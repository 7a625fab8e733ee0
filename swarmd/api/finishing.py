"""Calls under way when a server stops: they get their answer first.

A call with one answer takes moments, and without it nobody knows what became of it.  Streams go on for as
long as somebody listens, and begin anew elsewhere: nobody waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from swarmd.kit.supervise import race

LIMIT = 3.0
"""Seconds: a commit that nobody acknowledges takes longer, and its caller is told that it is not known."""


class Finishing(grpc.aio.ServerInterceptor):
    """Knows how many such calls are under way on one server."""

    def __init__(self) -> None:
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def see_off(self, server: grpc.aio.Server | None, *, limit: float = LIMIT) -> None:
        """Take no more calls from now on, and return when those there were have ended, or after ``limit``
        seconds.  The streams are left to whoever stops the server, if there is one."""
        if server is not None:
            await race(server.stop(limit), self._ended(limit))

    async def _ended(self, limit: float) -> None:
        try:
            async with asyncio.timeout(limit):
                await self._idle.wait()
        except TimeoutError:
            return

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The method's own handler, counted while it runs when it answers once."""
        handler = await continuation(details)
        if handler is None or handler.response_streaming:
            return handler
        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(
            self._counted(handler.stream_unary or handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _counted(self, inner: Any) -> Any:
        async def call(request: Any, context: Any) -> Any:
            self._running += 1
            self._idle.clear()
            try:
                return await inner(request, context)
            finally:
                self._running -= 1
                if not self._running:
                    self._idle.set()

        return call
