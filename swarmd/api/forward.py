"""Calls that only the leader can answer: a follower passes them on, bytes in, bytes out.

Nothing is decoded on the way.  A call that was passed on once is not passed on again: if the addressee
does not lead any more, the caller is told that there is no leader.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from swarmd.model.errors import NotManager, SwarmError, Unavailable
from swarmd.rpc import errors
from swarmd.security import peer

FORWARDED = "swarmd-forwarded"
PASSED_ON = ("/swarmd.rpc.v1.Control/", "/swarmd.rpc.v1.Authority/")
STREAMS = frozenset({"/swarmd.rpc.v1.Control/Logs"})

Where = Callable[[], "grpc.aio.Channel | None"]
"""None: this manager leads.  A channel: to the leader.  Raises SwarmError when nobody can answer."""


class Forwarding(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """In front of a node's gRPC servers.  ``where`` decides at each call."""

    def __init__(self, where: Where, *, check_caller: Callable[[Any], object] | None = None) -> None:
        self._where = where
        self._check_caller = check_caller

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> grpc.RpcMethodHandler | None:
        method: str = details.method
        if not method.startswith(PASSED_ON):
            return await continuation(details)
        handler = await continuation(details)
        if handler is None:
            return None
        if method in STREAMS:
            return _streaming(self, method, handler)
        return _unary(self, method, handler)

    def channel(self, context: Any) -> Any:
        """Where the call goes: None = here.  Raises SwarmError."""
        metadata = dict(context.invocation_metadata() or ())
        if self._check_caller is not None:
            self._check_caller(context)
        channel = self._where()
        if channel is not None and FORWARDED in metadata:
            raise Unavailable("the swarm's leader is changing; try again in a moment")
        return channel


def managers_only(cluster_id: Callable[[], str]) -> Callable[[Any], object]:
    """On the node port: the Control service is for managers, who pass on their users' calls."""

    def check(context: Any) -> object:
        return peer.require(context, cluster_id(), manager=True)

    return check


def _unary(outer: Forwarding, method: str, handler: Any) -> grpc.RpcMethodHandler:
    async def call(request: bytes, context: Any) -> Any:
        try:
            channel = outer.channel(context)
        except SwarmError as error:
            await errors.abort(context, error)
        if channel is None:
            answer = await handler.unary_unary(handler.request_deserializer(request), context)
            return handler.response_serializer(answer)
        try:
            return await channel.unary_unary(method)(request, metadata=((FORWARDED, "1"),), timeout=60)
        except grpc.RpcError as error:
            await errors.abort(context, errors.from_rpc(error))

    return grpc.unary_unary_rpc_method_handler(call)


def _streaming(outer: Forwarding, method: str, handler: Any) -> grpc.RpcMethodHandler:
    async def call(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            channel = outer.channel(context)
        except SwarmError as error:
            await errors.abort(context, error)
        if channel is None:
            async for answer in handler.unary_stream(handler.request_deserializer(request), context):
                yield handler.response_serializer(answer)
            return
        try:
            async for message in channel.unary_stream(method)(request, metadata=((FORWARDED, "1"),)):
                yield message
        except grpc.RpcError as error:
            await errors.abort(context, errors.from_rpc(error))

    return grpc.unary_stream_rpc_method_handler(call)


NOT_IN_SWARM = (
    'This node is not a swarm manager. Use "swarmctl swarm init" or "swarmctl swarm join" to connect '
    "this node to swarm and try again."
)
WORKER = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. "
    "Please run this command on a manager node or promote the current node to a manager."
)


def not_manager(*, in_swarm: bool) -> NotManager:
    """What a node that is no manager says to a manager's command."""
    return NotManager(WORKER if in_swarm else NOT_IN_SWARM)
