"""Calls that only the leader can answer: a follower passes them on, bytes in, bytes out.

Nothing is decoded on the way.  A call that was passed on once is not passed on again.  One that no leader has
seen is tried again for a while.  When the leader is lost meanwhile, a reading call is asked again of the next
one; a writing call may have been carried out, so its caller is told.  Most reading calls are answered here:
see ``reading``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import msgspec

from swarmd.api import reading
from swarmd.api.reading import ANYWHERE, PASSED_ON, STREAMS
from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Interrupted, until
from swarmd.model.errors import NotManager, OutcomeUnknown, SwarmError, Unavailable
from swarmd.rpc import errors
from swarmd.store.raft.port import NoLeader, no_leader

FORWARDED = "swarmd-forwarded"
PATIENCE = 6.0
"""Seconds for which a call that did not reach a leader is tried again."""

RETRY = 0.2
NOT_CONNECTED = "failed to connect to all addresses"
"""How gRPC begins the text of a call that never left this machine."""

CHANGING = "the swarm's leader is changing; try again in a moment"
"""What a manager says that was taken for the leader: it has not even looked at the call."""

LOST = (
    "the swarm's leader was lost while it worked on this. "
    "The change may have been applied; look before trying again."
)
NOT_IN_SWARM = (
    'This node is not a swarm manager. Use "swarmctl swarm init" or "swarmctl swarm join" to connect '
    "this node to swarm and try again."
)
WORKER = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. "
    "Please run this command on a manager node or promote the current node to a manager."
)


class Leader(msgspec.Struct, frozen=True):
    """Where the leader is: ``channel`` None = here.  ``lost`` is set when it leads no longer."""

    channel: Any
    lost: asyncio.Event
    using: Callable[[], contextlib.AbstractContextManager[Any]] | None = None

    def held(self) -> contextlib.AbstractContextManager[Any]:
        """The channel, for a stream that outlives a change of this node's certificate."""
        return contextlib.nullcontext(self.channel) if self.using is None else self.using()


HERE = Leader(channel=None, lost=asyncio.Event())

Find = Callable[[], Awaitable[Leader]]
"""Waits a little for a leader; raises SwarmError when this node is no manager or there is none."""


Metadata = tuple[tuple[str, str], ...]
PassingOn = Callable[[Any], Metadata]
"""What a call that is passed on carries, from the context of the one it came with."""


def plainly(context: Any) -> Metadata:
    """That it was passed on, and nothing of who asked."""
    return ((FORWARDED, "1"),)


class NotSent(Unavailable):
    """No leader has seen the call: asking again is safe."""


class Forwarding(grpc.aio.ServerInterceptor):
    """In front of a node's gRPC servers."""

    def __init__(self, find: Find, here: reading.Here, clock: Clock, passing_on: PassingOn = plainly) -> None:
        self._find = find
        self._here = here
        self._clock = clock
        self._passing_on = passing_on

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The method's own handler, wrapped when only the leader may answer it."""
        method: str = details.method
        handler = await continuation(details)
        if handler is None or not method.startswith(PASSED_ON) or method in ANYWHERE:
            return handler
        if method in STREAMS:
            return self._streaming(method, handler)
        return self._unary(method, handler)

    async def _leader(self, context: Any) -> Leader:
        leader = await self._find()
        if leader.channel is not None and _was_passed_on(context):
            raise Unavailable(CHANGING)
        return leader

    def _unary(self, method: str, handler: Any) -> Any:
        async def call(request: bytes, context: Any) -> Any:
            try:
                return await self._answer(method, handler, request, context)
            except SwarmError as error:
                await errors.abort(context, error)

        return grpc.unary_unary_rpc_method_handler(call)

    async def _answer(self, method: str, handler: Any, request: bytes, context: Any) -> Any:
        if not reading.only_looks(method):
            return await self._change(method, handler, request, context)
        try:
            return await self._look(method, handler, request, context)
        except NoLeader:
            raise reading.no_leader_to_read() from None

    async def _change(self, method: str, handler: Any, request: bytes, context: Any) -> Any:
        deadline = self._clock.monotonic() + PATIENCE
        while True:
            leader = await self._leader(context)
            if leader.channel is None:
                return await _handled(handler, request, context)
            with contextlib.suppress(NotSent):
                return await _passed_on(method, request, leader, self._passing_on(context))
            await self._again(leader, deadline)

    async def _look(self, method: str, handler: Any, request: bytes, context: Any) -> Any:
        deadline = self._clock.monotonic() + PATIENCE
        passed_on = _was_passed_on(context)
        while True:
            replica = self._here()
            if reading.wants_stale(method, context):
                reading.tell_age(context, replica.status())
                return await _handled(handler, request, context)
            if await reading.is_current(method, replica, passed_on=passed_on):
                return await _handled(handler, request, context)
            leader = await self._leader(context)
            if leader.channel is not None:
                with contextlib.suppress(Unavailable):
                    return await _passed_on(method, request, leader, self._passing_on(context))
            await self._again(leader, deadline)

    async def _again(self, leader: Leader, deadline: float) -> None:
        """Return when it is time to look for a leader again; raises Unavailable when it was enough."""
        if self._clock.monotonic() >= deadline:
            raise no_leader()
        await until(self._clock.sleep(RETRY), leader.lost)

    def _streaming(self, method: str, handler: Any) -> Any:
        async def call(request: bytes, context: Any) -> AsyncIterator[bytes]:
            try:
                if reading.wants_stale(method, context):
                    reading.tell_age(context, self._here().status())
                    leader = HERE
                else:
                    leader = await self._leader(context)
                if leader.channel is None:
                    async for answer in handler.unary_stream(handler.request_deserializer(request), context):
                        yield handler.response_serializer(answer)
                    return
                with leader.held() as channel:
                    async for message in channel.unary_stream(method)(
                        request, metadata=self._passing_on(context)
                    ):
                        yield message
            except SwarmError as error:
                await errors.abort(context, error)
            except grpc.RpcError as error:
                await errors.abort(context, errors.from_rpc(error))

        return grpc.unary_stream_rpc_method_handler(call)


def _was_passed_on(context: Any) -> bool:
    return FORWARDED in dict(context.invocation_metadata() or ())


async def _handled(handler: Any, request: bytes, context: Any) -> Any:
    answer = await handler.unary_unary(handler.request_deserializer(request), context)
    return handler.response_serializer(answer)


async def _passed_on(method: str, request: bytes, leader: Leader, metadata: Metadata) -> bytes:
    async def work() -> bytes:
        answer: bytes = await leader.channel.unary_unary(method)(request, metadata=metadata, timeout=60)
        return answer

    try:
        answer = await until(work(), leader.lost)
    except grpc.RpcError as error:
        told = errors.from_rpc(error)
        if isinstance(told, Unavailable) and str(told).startswith((NOT_CONNECTED, CHANGING)):
            raise NotSent(str(told)) from error
        # What the leader did not say itself is of the connection: it broke, or the answer is late.
        raise told if errors.was_told(error) else OutcomeUnknown(LOST) from error
    except Interrupted:
        answer = None  # the channel was closed: this node has a new certificate
    if answer is None:
        raise OutcomeUnknown(LOST)
    return answer


def not_manager(*, in_swarm: bool) -> NotManager:
    """What a node that is no manager says to a manager's command."""
    return NotManager(WORKER if in_swarm else NOT_IN_SWARM)
