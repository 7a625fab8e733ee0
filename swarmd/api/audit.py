"""The audit log's view of every call: who asked whom for what, and what came of it.

    Guard ──► Forwarding ──► Auditing ──► the method
      └ refused ──► a line       └ ended ──► a line, where the call was carried out

A follower that passes a call on says to the leader who asked it; the leader writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc

from swarmd.api.core import audit
from swarmd.api.core.audit import Caller, Line
from swarmd.api.core.flood import Flood
from swarmd.api.forward import FORWARDED
from swarmd.kit.clock import Clock
from swarmd.kit.ids import NewId
from swarmd.model.errors import SwarmError
from swarmd.rpc import errors
from swarmd.rpc.peer import Identity, OnJoin
from swarmd.rpc.v1 import agent_pb2, peer_pb2
from swarmd.security import peer
from swarmd.telemetry.tally import Tally

CALLER, REQUEST = "swarmd-caller", "swarmd-request-id"
"""Metadata of a call that was passed on: who asked first, and the id that the line gets."""

LOCAL = "local socket"
_UNDER_WAY: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="")
"""The id of the call that this task carries out: what it asks of another node is a part of that."""

_ID = re.compile(r"[0-9a-z-]{1,64}")
_CALLER = re.compile(r"[ -~]{1,100}")


class _Watch:
    """A call under way."""

    def __init__(self) -> None:
        self.first: object = None
        self.answer: object = None
        self.outcome, self.text = "ok", ""


class Trail:
    """Makes the lines.  ``write`` takes one; ``node_id``: of this node, "" outside of a swarm.

    ``calls`` counts all that ended, by what they are called in the log and their outcome.
    """

    def __init__(
        self, write: Callable[[bytes], None], clock: Clock, new_id: NewId, node_id: Callable[[], str]
    ) -> None:
        self._write = write
        self._clock = clock
        self._new_id = new_id
        self._node_id = node_id
        self._flood = Flood()
        self.calls = Tally()

    def refused(self, method: str, context: Any, error: SwarmError) -> None:
        """The guard let a call not pass."""
        watch = _Watch()
        watch.outcome, watch.text = error.kind, str(error)
        self.calls.add(audit.short_name(method), watch.outcome)
        self._record(audit.short_name(method), _asked(context), None, watch, 0.0)

    @contextlib.contextmanager
    def watching(self, method: str, context: Any, request: object) -> Iterator[_Watch]:
        """Around a method's own code; the answer is put into the watch."""
        # Now, not at the end: gRPC dies of being asked for the peer of a stream whose connection is gone.
        caller, known = _asked(context)
        asked = caller, known or self._new_id()
        _UNDER_WAY.set(asked[1])
        watch, start = _Watch(), self._clock.monotonic()
        try:
            yield watch
        except grpc.aio.AbortError:
            kind = dict(context.trailing_metadata() or ()).get(errors.KIND_KEY)
            watch.outcome, watch.text = str(kind or "internal"), str(context.details() or "")
            raise
        except SwarmError as error:
            watch.outcome, watch.text = error.kind, str(error)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            watch.outcome = "cancelled"
            raise
        except BaseException:
            watch.outcome = "internal"
            raise
        finally:
            duration = self._clock.monotonic() - start
            self.calls.add(audit.short_name(method), watch.outcome)
            self._record(audit.short_name(method), asked, request, watch, duration)

    def passing_on(self, context: Any) -> tuple[tuple[str, str], ...]:
        """The metadata of a call on its way to the leader, or to the node that it is about."""
        caller = _direct(context)
        who = caller.kind if caller.kind != "node" else f"node {caller.node}"
        return ((FORWARDED, "1"), (CALLER, who), (REQUEST, _UNDER_WAY.get() or self._new_id()))

    def joins(self, answer: OnJoin) -> OnJoin:
        """The join lane of the cluster port, which is no gRPC."""

        async def answered(request: peer_pb2.JoinRequest, address: str) -> peer_pb2.JoinReply:
            start = self._clock.monotonic()
            reply = await answer(request, address)
            if request.csr_pem:  # otherwise it only asked for the root certificate
                watch = _Watch()
                watch.answer, watch.outcome, watch.text = reply, reply.error_kind or "ok", reply.error
                caller = Caller(kind="stranger", address=address)
                duration = self._clock.monotonic() - start
                self._line("ClusterPort/Join", caller, self._new_id(), None, watch, duration)
            return reply

        return answered

    def refused_connection(self, address: str, who: Identity | None, why: str) -> None:
        """The cluster port did not let a connection in."""
        watch = _Watch()
        watch.outcome, watch.text = "denied", why
        caller = Caller(kind="stranger", address=address)
        if who is not None:
            role = who.role.removeprefix("swarm-")
            caller = Caller(kind="node", node=who.node_id, role=role, address=address)
        self._line("ClusterPort/Connect", caller, self._new_id(), None, watch, 0.0)

    def _record(
        self, name: str, asked: tuple[Caller, str], request: object, watch: _Watch, duration: float
    ) -> None:
        caller, request_id = asked
        if audit.is_recorded(name, watch.outcome, caller, watch.answer):
            self._line(name, caller, request_id or self._new_id(), request, watch, duration)

    def _line(
        self, name: str, caller: Caller, request_id: str, request: object, watch: _Watch, duration: float
    ) -> None:
        left_out = self._left_out(caller, request) if audit.may_flood(name, watch.outcome) else 0
        if left_out is None:
            return
        asked = request if watch.first is None else watch.first
        target, fields, answer = audit.described(name, asked, watch.answer)
        line = Line(
            time=audit.timestamp(self._clock.now()),
            node=self._node_id(),
            request=request_id,
            caller=caller,
            method=name,
            target=target,
            fields=fields,
            answer=answer,
            outcome=watch.outcome,
            error=audit.sentence(name, watch.outcome, watch.text, request),
            duration_ms=round(duration * 1000, 1),
            suppressed=left_out,
        )
        self._write(audit.encode(line))

    def _left_out(self, caller: Caller, request: object) -> int | None:
        """How many refusals of this caller were left out before; None: this one is as well."""
        stranger = request.address if isinstance(request, agent_pb2.ForwardedJoin) else ""
        host = caller.address.rpartition(":")[0] if caller.kind == "unknown" else caller.address
        who = stranger or caller.via or caller.node or host or caller.kind
        return self._flood.admit(who, self._clock.monotonic())


class Auditing(grpc.aio.ServerInterceptor):
    """The innermost interceptor of a server: only what is carried out here comes so far."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The method's own handler, watched."""
        handler = await continuation(details)
        if handler is None:
            return None
        method, up = details.method, handler.request_streaming
        codec = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.response_streaming:
            make = grpc.stream_stream_rpc_method_handler if up else grpc.unary_stream_rpc_method_handler
            return make(self._stream(method, handler.stream_stream or handler.unary_stream, up=up), **codec)
        make = grpc.stream_unary_rpc_method_handler if up else grpc.unary_unary_rpc_method_handler
        return make(self._single(method, handler.stream_unary or handler.unary_unary, up=up), **codec)

    def _single(self, method: str, inner: Any, *, up: bool) -> Any:
        async def call(request: Any, context: Any) -> Any:
            with self._trail.watching(method, context, None if up else request) as watch:
                watch.answer = await inner(_noting_first(request, watch) if up else request, context)
                return watch.answer

        return call

    def _stream(self, method: str, inner: Any, *, up: bool) -> Any:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._trail.watching(method, context, None if up else request) as watch:
                wanted = _noting_first(request, watch) if up else request
                async with contextlib.aclosing(inner(wanted, context)) as answers:
                    async for answer in answers:
                        watch.answer = answer
                        yield answer

        return call


async def _noting_first(messages: AsyncIterator[Any], watch: _Watch) -> AsyncIterator[Any]:
    """A stream says what it is about in its first message; only that is kept, as it came."""
    async for message in messages:
        if watch.first is None:
            watch.first = copy.copy(message)
        yield message


def _asked(context: Any) -> tuple[Caller, str]:
    """Who asked, and the id under which another node knows the call ("" when none does)."""
    caller = _direct(context)
    if caller.kind == "node":  # what a user of the socket says of himself counts for nothing
        metadata = dict(context.invocation_metadata() or ())
        if FORWARDED in metadata:
            first = _fitting(_CALLER, metadata.get(CALLER)) or "unknown"
            passed_on = Caller(kind=first, via=caller.node, address=caller.address)
            return passed_on, _fitting(_ID, metadata.get(REQUEST))
    return caller, ""


def _direct(context: Any) -> Caller:
    """Who is at the other end of the connection."""
    address = str(context.peer() or "")
    if address.startswith("unix"):
        return Caller(kind=LOCAL)
    try:
        identity = peer.caller(context)
    except SwarmError:
        return Caller(address=address)
    return Caller(kind="node", node=identity.node_id, role=identity.role.value, address=address)


def _fitting(pattern: re.Pattern[str], text: object) -> str:
    return text if isinstance(text, str) and pattern.fullmatch(text) else ""
