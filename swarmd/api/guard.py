"""In front of every call: who may make it, and what is said when it fails in a way nobody foresaw.

    caller ──► may it?  ──► the method ──► a SwarmError: its sentence
                 no ──► Denied             anything else: a traceback in the log, a short sentence

Who may is declared in the proto files (``rpc.audience``).  What declares nothing is refused everywhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import structlog

from swarmd.model.errors import Denied, SwarmError
from swarmd.rpc import audience, errors
from swarmd.rpc.audience import audience_of
from swarmd.security import peer
from swarmd.security.ca import Identity
from swarmd.store import standing
from swarmd.store.store import Store

INTERNAL = "an internal error of the daemon stopped this call: the daemon's log says more"

Check = Callable[[str, Any], None]
"""(method, context of the call); raises Denied."""

Refused = Callable[[str, Any, SwarmError], None]


def node_port_check(cluster_id: Callable[[], str], store: Callable[[], Store | None]) -> Check:
    """The rule of the node port.  ``store``: this node's, while it is a manager."""

    def check(method: str, context: Any) -> None:
        for_managers = audience_of(method) in (audience.USERS, audience.MANAGERS)
        if not for_managers and audience_of(method) != audience.MEMBERS:
            raise Denied(f"nobody may call {method} on the node port")
        identity = peer.require(context, cluster_id(), manager=for_managers)
        known = store()
        if known is not None:
            _check_standing(identity, known, manager=for_managers)

    return check


def check_local(method: str, context: Any) -> None:
    """The rule of the unix socket: the file's mode says who gets in, the declaration what is asked there."""
    if audience_of(method) not in (audience.USERS, audience.LOCAL):
        raise Denied(f"nobody may call {method} on the daemon's socket")


def _check_standing(identity: Identity, store: Store, *, manager: bool) -> None:
    """A certificate outlives what it says; a manager that knows better does not rely on it."""
    check = standing.check_manager if manager else standing.check_not_removed
    check(identity.node_id, store)


class Guard(grpc.aio.ServerInterceptor):
    """The outermost interceptor of a server; ``refused`` is told (method, context, error) of each Denied."""

    def __init__(self, check: Check, refused: Refused | None = None) -> None:
        self._check = check
        self._refused = refused
        self._log = structlog.get_logger()

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The method's own handler inside the net."""
        handler = await continuation(details)
        if handler is None:
            return None
        make = _MAKERS[handler.request_streaming, handler.response_streaming]
        inner = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        call = self._stream if handler.response_streaming else self._single
        return make(
            call(details.method, inner),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _single(self, method: str, inner: Any) -> Any:
        async def call(request: Any, context: Any) -> Any:
            async with self._net(method, context):
                return await inner(request, context)

        return call

    def _stream(self, method: str, inner: Any) -> Any:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._net(method, context), contextlib.aclosing(inner(request, context)) as answers:
                async for answer in answers:
                    yield answer

        return call

    @contextlib.asynccontextmanager
    async def _net(self, method: str, context: Any) -> AsyncIterator[None]:
        caller = context.peer()  # while there certainly is one: see api/audit.py
        try:
            self._checked(method, context)
            yield
        except grpc.aio.AbortError:
            raise  # answered already
        except SwarmError as error:
            await errors.abort(context, error)
        except Exception as error:  # noqa: BLE001 - the last net: no traceback leaves this machine
            self._log.error("call_failed", method=method, caller=caller, exc_info=error)
            await errors.abort(context, SwarmError(INTERNAL))

    def _checked(self, method: str, context: Any) -> None:
        try:
            self._check(method, context)
        except Denied as error:
            if self._refused is not None:
                self._refused(method, context, error)
            raise


_MAKERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
