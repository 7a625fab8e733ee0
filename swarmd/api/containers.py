"""The Containers service of the daemon's socket: a container of this node, or a task of another one.

    ref ──► a container of this node?   answered here, with or without a swarm
        └─► a task, says this manager ──► the same call on its node's port (NodeContainers)

A manager first makes sure that it is as new as the leader; when there is none it goes by what it knows: what
runs can be looked into also while nothing can be changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import msgspec
from google.protobuf.descriptor import MethodDescriptor

from swarmd.model.errors import SwarmError, Unavailable
from swarmd.rpc import errors
from swarmd.rpc.v1 import containers_pb2 as pb
from swarmd.rpc.v1 import containers_pb2_grpc

_SERVICE = "swarmd.rpc.v1.Containers"
_ON_NODE = "/swarmd.rpc.v1.NodeContainers/"

Metadata = tuple[tuple[str, str], ...]


class Elsewhere(msgspec.Struct, frozen=True):
    """A task on another node, or on this one as a manager sees it.  ``using``: the way to its node."""

    container_id: str
    hostname: str
    using: Callable[[], contextlib.AbstractContextManager[Any]]


Find = Callable[[str], Awaitable["Elsewhere | str | None"]]
"""Where the container is that a user calls so; its id if it is here, None: here under that name.

Raises NotFound, Invalid, Refused."""


class ContainersHandlers(grpc.GenericRpcHandler):
    """Every call of the service: ``here`` answers those on containers of this node.

    ``passing_on``: what a call carries to another node of who asked; called while there is a connection.
    """

    def __init__(self, here: Any, find: Find, passing_on: Callable[[Any], Metadata]) -> None:
        self._here = here
        self._find = find
        self._passing_on = passing_on
        service = pb.DESCRIPTOR.services_by_name["Containers"]
        self._handlers = {f"/{_SERVICE}/{each.name}": self._handler(each) for each in service.methods}

    def service_name(self) -> str:
        return _SERVICE

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a call, None for one that is not of this service."""
        return self._handlers.get(handler_call_details.method)

    def _handler(self, method: MethodDescriptor) -> Any:
        request, response = getattr(pb, method.input_type.name), getattr(pb, method.output_type.name)
        codec = {
            "request_deserializer": request.FromString,
            "response_serializer": response.SerializeToString,
        }
        way = _Way(method.name, request.SerializeToString, response.FromString)
        inner = getattr(self._here, method.name)
        if not hasattr(containers_pb2_grpc.NodeContainersServicer, method.name):  # of this node alone
            return grpc.unary_unary_rpc_method_handler(inner, **codec)
        if method.client_streaming and method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(self._session(way, inner), **codec)
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(self._upload(way, inner), **codec)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(self._download(way, inner), **codec)
        return grpc.unary_unary_rpc_method_handler(self._single(way, inner), **codec)

    def _single(self, way: _Way, inner: Any) -> Any:
        async def call(request: Any, context: Any) -> Any:
            metadata = self._passing_on(context)
            async with self._found(request, context) as place:
                if place is None:
                    return await inner(request, context)
                with _reaching(place) as channel:
                    send = channel.unary_unary(way.path, **way.codec)
                    return await send(request, metadata=metadata)

        return call

    def _download(self, way: _Way, inner: Any) -> Any:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            metadata = self._passing_on(context)
            async with self._found(request, context) as place:
                if place is None:
                    async with contextlib.aclosing(inner(request, context)) as answers:
                        async for answer in answers:
                            yield answer
                    return
                with _reaching(place) as channel:
                    sent = channel.unary_stream(way.path, **way.codec)(request, metadata=metadata)
                    async with _ended(sent):
                        async for answer in sent:
                            yield answer

        return call

    def _upload(self, way: _Way, inner: Any) -> Any:
        async def call(request_iterator: Any, context: Any) -> Any:
            metadata = self._passing_on(context)
            first = await anext(request_iterator, None)
            async with self._found(first, context) as place:
                messages = _with_first(first, request_iterator)
                if place is None:
                    return await inner(messages, context)
                with _reaching(place) as channel:
                    sent = channel.stream_unary(way.path, **way.codec)(messages, metadata=metadata)
                    async with _ended(sent):
                        return await sent

        return call

    def _session(self, way: _Way, inner: Any) -> Any:
        async def call(request_iterator: Any, context: Any) -> AsyncIterator[Any]:
            metadata = self._passing_on(context)
            first = await anext(request_iterator, None)
            async with self._found(first, context) as place:
                messages = _with_first(first, request_iterator)
                if place is None:
                    async with contextlib.aclosing(inner(messages, context)) as answers:
                        async for answer in answers:
                            yield answer
                    return
                with _reaching(place) as channel:
                    sent = channel.stream_stream(way.path, **way.codec)(messages, metadata=metadata)
                    async with _ended(sent):
                        async for answer in sent:
                            yield answer

        return call

    @contextlib.asynccontextmanager
    async def _found(self, request: Any, context: Any) -> AsyncIterator[Elsewhere | None]:
        """Where the call goes; a request for a task says its id from here on."""
        try:
            if request is None:
                yield None  # an empty stream: the method knows what to say
                return
            place = await self._place(request)
            if isinstance(place, str):
                _rename(request, place)
                yield None
                return
            if place is not None:
                _rename(request, place.container_id)
            yield place
        except SwarmError as error:
            await errors.abort(context, error)

    async def _place(self, request: Any) -> Elsewhere | str | None:
        if isinstance(request, pb.StatsRequest):
            return await self._find(request.refs[0]) if len(request.refs) == 1 else None
        return await self._find(request.ref)


class _Way(msgspec.Struct, frozen=True):
    """How a method is called on another node."""

    name: str
    serialize: Callable[[Any], bytes]
    parse: Callable[[bytes], Any]

    @property
    def path(self) -> str:
        return _ON_NODE + self.name

    @property
    def codec(self) -> dict[str, Any]:
        return {"request_serializer": self.serialize, "response_deserializer": self.parse}


def _rename(request: Any, container_id: str) -> None:
    if isinstance(request, pb.StatsRequest):
        request.refs[:] = [container_id]
    else:
        request.ref = container_id


async def _with_first(first: Any, rest: AsyncIterator[Any]) -> AsyncIterator[Any]:
    if first is not None:
        yield first
    async for message in rest:
        yield message


@contextlib.contextmanager
def _reaching(place: Elsewhere) -> Any:
    """The way to a node; when it breaks the sentence says which node, and what may go on there."""
    try:
        with errors.calling(), place.using() as channel:
            yield channel
    except Unavailable as error:
        if isinstance(error.__cause__, grpc.RpcError) and errors.was_told(error.__cause__):
            raise  # the node's own words
        raise Unavailable(
            f"the way to node {place.hostname} is broken, where container {place.container_id} is and may "
            f"run on: {error}"
        ) from error


@contextlib.asynccontextmanager
async def _ended(call: Any) -> AsyncIterator[None]:
    """The call does not outlive the block: what is left of it is cancelled."""
    try:
        yield
    finally:
        call.cancel()
