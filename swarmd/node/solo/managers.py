"""What a manager is asked about single containers in networks of the swarm.

Addresses are the managers': a container gets them before it starts, and keeps them while there is a record of
it.  What could not be said at once (it stopped, it was removed) is said with the next report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

import grpc

from swarmd.kit.clock import Clock
from swarmd.model.errors import Refused, Unavailable
from swarmd.model.network import ContainerNetwork
from swarmd.node.solo.core import networks
from swarmd.node.solo.core.record import Joined, Record
from swarmd.rpc import codec
from swarmd.rpc.errors import calling
from swarmd.rpc.v1 import agent_pb2 as pb
from swarmd.rpc.v1 import agent_pb2_grpc

PATIENCE = 10.0
"""Seconds for which a new leader is waited for."""
RETRY = 0.3
LIMIT = 10.0
"""Seconds of one call."""

TOO_OLD = (
    "the leader of the swarm runs a version of swarmd that attaches no single containers to networks: "
    "upgrade the managers"
)

Keep = Callable[[tuple[Joined, ...]], None]


class Managers(Protocol):
    """Whoever gives addresses in networks."""

    async def attach(self, record: Record, keep: Keep, *, up: bool, patience: float = PATIENCE) -> None:
        """The record's networks are those it is in.  ``keep`` is given them with their addresses, before a
        report can miss them.  Raises what is wrong with them; Unavailable without a leader."""
        ...

    async def report(self, reported: Callable[[], Iterable[tuple[Record, bool]]]) -> Collection[str]:
        """Everything that this node has, each with whether it is up.  Answers ids that are to be attached
        again.  Raises Unavailable without a leader."""
        ...


class Leader:
    """``channel``: to the manager that leads; raises Unavailable without one, Refused without a swarm."""

    def __init__(self, channel: Callable[[], grpc.aio.Channel], clock: Clock) -> None:
        self._channel = channel
        self._clock = clock
        self._one = asyncio.Lock()

    async def attach(self, record: Record, keep: Keep, *, up: bool, patience: float = PATIENCE) -> None:
        request = pb.AttachContainerRequest(container_id=record.id, name=record.name, up=up)
        for one in networks.wanted(record):
            codec.fill(request.networks.add(), one)
        deadline = self._clock.monotonic() + patience
        while True:
            try:
                async with self._one:
                    answer = await self._attach(request)
                    got = [codec.from_proto(ContainerNetwork, one) for one in answer.networks]
                    keep(networks.answered(record, got, tuple(answer.names)))
                    return
            except Unavailable as error:
                if self._clock.monotonic() >= deadline:
                    names = ", ".join(one.name for one in record.networks)
                    raise Unavailable(f"{error}; a manager has to give addresses in {names}") from error
            await self._clock.sleep(RETRY)

    async def _attach(self, request: pb.AttachContainerRequest) -> pb.AttachContainerResponse:
        stub = agent_pb2_grpc.AttachmentsStub(self._channel())
        with _understood(), calling():
            answer: pb.AttachContainerResponse = await stub.AttachContainer(request, timeout=LIMIT)
        return answer

    async def report(self, reported: Callable[[], Iterable[tuple[Record, bool]]]) -> Collection[str]:
        async with self._one:
            request = pb.ReportContainersRequest()
            for record, up in reported():
                if networks.told(record):
                    one = request.containers.add(container_id=record.id, name=record.name, up=up)
                    for network in networks.told(record):
                        codec.fill(one.networks.add(), network)
            stub = agent_pb2_grpc.AttachmentsStub(self._channel())
            with _understood(), calling():
                answer = await stub.ReportContainers(request, timeout=LIMIT)
        return tuple(answer.stale)


class _understood:  # noqa: N801 - reads as the function it is
    """Around a call: what an older leader says of it becomes a sentence."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        cause = error.__cause__ if error is not None else None
        if isinstance(cause, grpc.RpcError) and cause.code() == grpc.StatusCode.UNIMPLEMENTED:
            raise Refused(TOO_OLD) from error


class Nobody:
    """Of a node that is in no swarm."""

    async def attach(self, record: Record, keep: Keep, *, up: bool, patience: float = PATIENCE) -> None:
        if record.networks:
            names = ", ".join(one.name for one in record.networks)
            raise Refused(f"this node is in no swarm, so there is no network {names} to join")

    async def report(self, reported: Callable[[], Iterable[tuple[Record, bool]]]) -> Collection[str]:
        return ()
