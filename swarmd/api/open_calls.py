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
        self._open: dict[asyncio.Task[Any], tuple[str, _Seen]] = {}
        self._cut: dict[asyncio.Task[Any], Denied] = {}
        self._log = structlog.get_logger()

    def recheck(self) -> None:
        """Rows or roots are others than before: cut the calls of those who may not make them any more."""
        for task, (method, seen) in list(self._open.items()):
            try:
                self._check(method, seen)
            except Denied as error:
                self._log.info("call_cut", method=method, caller=seen.peer(), reason=str(error))
                self._cut[task] = error
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
            self._open[task] = method, _Seen(context)
            try:
                async with contextlib.aclosing(inner(request, context)) as answers:
                    async for answer in answers:
                        yield answer
            except asyncio.CancelledError:
                reason = self._cut.get(task)
                if reason is None:
                    raise
                # grpc.aio tells the caller nothing of a method that was cancelled.
                task.uncancel()
                raise reason from None
            finally:
                self._open.pop(task, None)
                self._cut.pop(task, None)

        return call


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
