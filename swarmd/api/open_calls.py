"""Calls that stand when their caller may not make them any more: a certificate is looked at more than once.

each call            ──► is the caller's certificate good still?  A connection may outlive it
rows or roots change ──► every open call is asked the question of its beginning again, or is cut
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
import structlog

from swarmd.api.finishing import Finishing
from swarmd.api.guard import Check
from swarmd.kit.clock import Clock
from swarmd.model.errors import Denied
from swarmd.security import ca, peer, roots

LAST_ANSWER_SECONDS = 3.0
"""For a caller to take what is on its way when the call is cut, and then to be told why."""


def certificate_check(clock: Clock, trusted: Callable[[], bytes]) -> Check:
    """Refuses what TLS would refuse if the connection began now: a certificate that has expired, or is of a
    root that is trusted no more.  ``trusted``: the bundle of this moment."""

    def check(method: str, context: Any) -> None:
        certificate = peer.certificate(context)
        until, issuer = _facts(certificate)
        if clock.now() >= until:
            raise Denied("the caller's certificate has expired: it may only be renewed")
        keys = _keys(trusted())
        # While two roots are trusted a third may be on its way out, too.
        if len(keys) == 1 and issuer not in keys:
            raise Denied("the caller's certificate is of a root that is trusted no more")

    return check


class OpenCalls(grpc.aio.ServerInterceptor):
    """Inside the guard: knows what is under way.  ``finishing``: of calls with one answer, outside it."""

    def __init__(self, check: Check) -> None:
        self.finishing = Finishing()
        self._check = check
        self._open: dict[asyncio.Task[Any], _Call] = {}
        self._log = structlog.get_logger()

    def recheck(self) -> None:
        """Rows or roots are others than before: cut the calls of those who may not make them any more."""
        for task, call in list(self._open.items()):
            if call.cut is not None:
                continue
            try:
                self._check(call.method, call.seen)
            except Denied as error:
                self._log.info("call_cut", method=call.method, caller=call.seen.peer(), reason=str(error))
                call.cut = error
                # While an answer is on its way gRPC would take the cancellation, and tell the caller nothing.
                if call.is_sending:
                    asyncio.get_running_loop().call_later(LAST_ANSWER_SECONDS, self._end, task)
                else:
                    task.cancel()

    def _end(self, task: asyncio.Task[Any]) -> None:
        """Of a caller who does not take what is sent."""
        if task in self._open:
            task.cancel()

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The method's own handler, known while it runs when it streams its answer."""
        handler = await continuation(details)
        if handler is None or not handler.response_streaming:
            return handler
        inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        return make(
            self._known(details.method, inner),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _known(self, method: str, inner: Any) -> Any:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            task = asyncio.current_task()
            assert task is not None
            known = self._open[task] = _Call(method, _Seen(context))
            try:
                async with contextlib.aclosing(inner(request, context)) as answers:
                    async for answer in answers:
                        known.is_sending = True
                        yield answer
                        known.is_sending = False
                        if known.cut is not None:
                            raise known.cut
            except asyncio.CancelledError:
                if known.cut is None or known.is_sending:
                    raise
                # grpc.aio tells the caller nothing of a method that was cancelled.
                task.uncancel()
                raise known.cut from None
            finally:
                self._open.pop(task, None)

        return call


class _Call:
    """One that is open; ``cut``: why it is to end."""

    def __init__(self, method: str, seen: _Seen) -> None:
        self.method = method
        self.seen = seen
        self.is_sending = False
        self.cut: Denied | None = None


class _Seen:
    """What a call's beginning said of its caller.

    Asked for it after the call has ended, gRPC's core follows a null pointer, and the daemon dies of that.
    """

    def __init__(self, context: Any) -> None:
        self._auth = dict(context.auth_context())
        self._peer = str(context.peer() or "")

    def auth_context(self) -> Mapping[str, Any]:
        return self._auth

    def peer(self) -> str:
        return self._peer


@functools.lru_cache(maxsize=1024)
def _facts(certificate: bytes) -> tuple[float, str]:
    return ca.validity(certificate)[1], roots.issuer_key_id(certificate)


@functools.lru_cache(maxsize=8)
def _keys(bundle: bytes) -> frozenset[str]:
    return frozenset(roots.key_id(root) for root in roots.split(bundle))
