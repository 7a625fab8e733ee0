"""Calls for the leader: answered here, passed on once, asked again where that is safe, never done twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import grpc
import pytest

from swarmd.api.forward import (
    FORWARDED,
    LOST,
    NOT_IN_SWARM,
    PATIENCE,
    WORKER,
    Forwarding,
    Leader,
    not_manager,
)
from swarmd.api.guard import Guard
from swarmd.model.errors import Denied, NotFound, NotManager, OutcomeUnknown, Unavailable
from swarmd.rpc import errors
from swarmd.rpc.v1 import control_pb2 as pb
from swarmd.rpc.v1 import control_pb2_grpc
from swarmd.store.raft.port import NO_LEADER, RaftStatus, no_leader

# gRPC method names are the protocol's.
# ruff: noqa: N802


class HurriedClock:
    """Sleeps pass at once, and count."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += seconds
        await asyncio.sleep(0.001)


class Control(control_pb2_grpc.ControlServicer):
    """Answers with its name, notes each call; stands still while ``gate`` is closed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[str] = []
        self.metadata: list[dict[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.called = asyncio.Event()

    async def _note(self, what: str, context: Any) -> None:
        self.calls.append(what)
        self.metadata.append(dict(context.invocation_metadata()))
        self.called.set()
        await self.gate.wait()

    async def GetCluster(self, request: pb.GetClusterRequest, context: Any) -> pb.GetClusterResponse:
        await self._note("get", context)
        return pb.GetClusterResponse(id=self.name)

    async def RotateToken(self, request: pb.RotateTokenRequest, context: Any) -> pb.RotateTokenResponse:
        await self._note("rotate", context)
        if request.role == "boss":
            await errors.abort(context, NotFound("there is no boss"))
        return pb.RotateTokenResponse(token=f"{self.name}:{request.role}")

    async def ListServices(self, request: pb.ListServicesRequest, context: Any) -> pb.ListServicesResponse:
        await self._note("services", context)
        return pb.ListServicesResponse(services=[{"service": {"id": self.name}}])  # type: ignore[list-item]

    async def Logs(self, request: pb.LogsRequest, context: Any) -> AsyncIterator[pb.LogsResponse]:
        await self._note("logs", context)
        for line in (b"one", b"two"):
            yield pb.LogsResponse(line=line)
        if request.ref == "nosuch":
            await errors.abort(context, NotFound("no such task or service: nosuch"))


class Replica:
    """What a manager knows of replication; ``index`` None: too far behind, or nobody follows it."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self.index: int | None = 7
        self.asked = 0
        self.age: float | None = 3.25

    def _leader(self) -> Leader | None:
        found = self._manager.leaders[0]
        return found if isinstance(found, Leader) else None

    def is_leader(self) -> bool:
        leader = self._leader()
        return leader is not None and leader.channel is None

    def status(self) -> RaftStatus:
        leader = "somebody" if self._leader() else None
        return RaftStatus(
            role="follower", term=1, epoch=1, leader=leader, members={}, reachable=frozenset(), applied=7,
            has_quorum=True, age=self.age,
        )  # fmt: skip

    async def read_index(self, *, timeout: float = 10.0) -> int:
        self.asked += 1
        if self.index is None:
            raise Unavailable("This manager is behind.")
        return self.index


class Manager:
    """A gRPC server behind Forwarding; ``leaders``: what it finds, one after another, the last for ever."""

    def __init__(self, name: str) -> None:
        self.control = Control(name)  # type: ignore[abstract]
        self.replica = Replica(self)
        self.leaders: list[Leader | Exception] = []
        self.found = 0
        self.lost = asyncio.Event()
        self.clock = HurriedClock()
        self.denied: Exception | None = None
        self.channel: grpc.aio.Channel
        self.server: grpc.aio.Server

    async def start(self) -> None:
        guard = Guard(lambda method, context: self.check(context))
        self.server = grpc.aio.server(interceptors=[guard, Forwarding(self.find, self.here, self.clock)])
        control_pb2_grpc.add_ControlServicer_to_server(self.control, self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        self.address = f"127.0.0.1:{port}"
        self.channel = grpc.aio.insecure_channel(self.address)

    async def stop(self) -> None:
        self.control.gate.set()
        await self.channel.close(None)
        await self.server.stop(None)

    async def find(self) -> Leader:
        self.found += 1
        found = self.leaders[0] if len(self.leaders) == 1 else self.leaders.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def here(self) -> Replica:
        found = self.leaders[0]
        if isinstance(found, NotManager):
            raise found
        return self.replica

    def check(self, context: Any) -> None:
        if self.denied is not None:
            raise self.denied

    def leads(self) -> None:
        self.leaders.append(Leader(None, self.lost))

    def follows(self, channel: grpc.aio.Channel) -> asyncio.Event:
        """That one leads as far as this manager knows; answers the event of losing it."""
        lost = asyncio.Event()
        self.leaders.append(Leader(channel, lost))
        return lost

    async def get(self) -> str:
        answer = await control_pb2_grpc.ControlStub(self.channel).GetCluster(
            pb.GetClusterRequest(), timeout=60
        )
        return str(answer.id)

    async def services(self, **metadata: str) -> tuple[str, dict[str, str]]:
        """Who answered, and what was said with it."""
        call = control_pb2_grpc.ControlStub(self.channel).ListServices(
            pb.ListServicesRequest(), timeout=60, metadata=tuple(metadata.items())
        )
        answer = await call
        told: Any = await call.trailing_metadata()
        return answer.services[0].service.id, {key: value for key, value in told if key.startswith("swarmd")}

    async def rotate(self, role: str = "worker") -> str:
        request = pb.RotateTokenRequest(role=role)
        answer = await control_pb2_grpc.ControlStub(self.channel).RotateToken(request, timeout=60)
        return str(answer.token)


@pytest.fixture
async def managers() -> AsyncIterator[tuple[Manager, Manager, Manager]]:
    three = (Manager("one"), Manager("two"), Manager("three"))
    for manager in three:
        await manager.start()
    yield three
    for manager in three:
        await manager.stop()


Three = tuple[Manager, Manager, Manager]


@pytest.fixture
async def nowhere() -> AsyncIterator[grpc.aio.Channel]:
    channel = grpc.aio.insecure_channel("127.0.0.1:1")
    yield channel
    await channel.close(None)


async def told(call: Awaitable[object]) -> Exception:
    """The SwarmError that a call ended with."""
    with pytest.raises(grpc.RpcError) as caught:
        await call
    return errors.from_rpc(caught.value)


async def test_the_leader_answers_itself(managers: Three) -> None:
    one, _, _ = managers
    one.leads()
    assert (await one.get(), await one.rotate()) == ("one", "one:worker")


async def test_a_follower_passes_a_call_on_and_says_so(managers: Three) -> None:
    one, two, _ = managers
    one.follows(two.channel)
    two.leads()
    assert (await one.get(), await one.rotate("manager")) == ("two", "two:manager")
    assert one.control.calls == []
    assert [metadata[FORWARDED] for metadata in two.control.metadata] == ["1", "1"]


async def test_what_the_leader_refuses_arrives_as_it_was_said(managers: Three) -> None:
    one, two, _ = managers
    one.follows(two.channel)
    two.leads()
    error = await told(one.rotate("boss"))
    assert (type(error), str(error)) == (NotFound, "there is no boss")
    assert two.control.calls == ["rotate"]


async def test_what_did_not_reach_a_leader_is_asked_again_until_there_is_one(
    managers: Three, nowhere: grpc.aio.Channel
) -> None:
    one, two, _ = managers
    for _ in range(3):
        one.follows(nowhere)
    one.follows(two.channel)
    two.leads()
    assert await one.rotate() == "two:worker"
    assert two.control.calls == ["rotate"]


async def test_without_any_leader_that_is_said_in_the_end(managers: Three, nowhere: grpc.aio.Channel) -> None:
    one, _, _ = managers
    one.follows(nowhere)
    error = await told(one.rotate())
    assert (type(error), str(error)) == (Unavailable, NO_LEADER)
    assert PATIENCE <= one.clock.monotonic() < PATIENCE + 1


async def test_a_reading_call_whose_leader_is_lost_is_asked_of_the_next(managers: Three) -> None:
    one, two, three = managers
    lost = one.follows(two.channel)
    one.follows(three.channel)
    two.leads()
    three.leads()
    two.control.gate.clear()
    asking = asyncio.ensure_future(one.get())
    await reached(two)
    lost.set()
    assert await asking == "three"


async def test_a_writing_call_whose_leader_is_lost_is_not_repeated(managers: Three) -> None:
    one, two, three = managers
    lost = one.follows(two.channel)
    one.follows(three.channel)
    two.leads()
    three.leads()
    two.control.gate.clear()
    asking = asyncio.ensure_future(one.rotate())
    await reached(two)
    lost.set()
    error = await told(asking)
    assert (type(error), str(error)) == (OutcomeUnknown, LOST)
    assert three.control.calls == []


async def test_a_channel_that_is_closed_meanwhile_is_a_lost_leader_and_no_defect(managers: Three) -> None:
    one, two, three = managers
    channel = grpc.aio.insecure_channel(two.address)
    one.follows(channel)
    one.follows(three.channel)
    two.leads()
    three.leads()
    two.control.gate.clear()
    asking = asyncio.ensure_future(one.rotate())
    await reached(two)
    await channel.close(None)
    assert str(await told(asking)) == LOST


async def test_a_call_is_passed_on_once_and_its_first_manager_looks_for_the_leader_again(
    managers: Three,
) -> None:
    one, two, three = managers
    one.follows(two.channel)  # two led a moment ago
    one.follows(three.channel)
    two.follows(three.channel)
    three.leads()
    assert await one.rotate() == "three:worker"
    assert (one.found, two.found, three.control.calls) == (2, 1, ["rotate"])


async def test_two_managers_that_take_each_other_for_the_leader_do_not_turn_in_circles(
    managers: Three,
) -> None:
    one, two, _ = managers
    one.follows(two.channel)
    two.follows(one.channel)
    assert str(await told(one.rotate())) == NO_LEADER
    assert one.control.calls == two.control.calls == []
    assert one.found < 40


@pytest.mark.parametrize(("in_swarm", "text"), [(True, WORKER), (False, NOT_IN_SWARM)])
async def test_workers_and_outsiders_say_what_they_are(managers: Three, in_swarm: bool, text: str) -> None:
    one, _, _ = managers
    one.leaders.append(not_manager(in_swarm=in_swarm))
    error = await told(one.get())
    assert (type(error), str(error)) == (NotManager, text)


async def test_who_may_not_call_is_stopped_before_anything_is_looked_for(managers: Three) -> None:
    one, _, _ = managers
    one.leads()
    one.denied = Denied("only managers may make this call")
    assert isinstance(await told(one.get()), Denied)
    assert (one.found, one.control.calls) == (0, [])


async def lines(manager: Manager, ref: str = "web") -> list[bytes]:
    stub = control_pb2_grpc.ControlStub(manager.channel)
    return [message.line async for message in stub.Logs(pb.LogsRequest(ref=ref), timeout=60)]


async def test_a_stream_is_passed_on_line_by_line(managers: Three) -> None:
    one, two, _ = managers
    one.follows(two.channel)
    two.leads()
    assert await lines(one) == await lines(two) == [b"one", b"two"]
    error = await told(lines(one, "nosuch"))
    assert (type(error), str(error)) == (NotFound, "no such task or service: nosuch")


async def test_a_stream_is_passed_on_once_too(managers: Three, nowhere: grpc.aio.Channel) -> None:
    one, two, three = managers
    one.follows(two.channel)
    two.follows(three.channel)
    three.leads()
    assert isinstance(await told(lines(one)), Unavailable)
    assert three.control.calls == []


STALE = {"swarmd-read": "stale"}


async def test_a_follower_that_is_current_answers_a_look_itself(managers: Three) -> None:
    one, two, _ = managers
    one.follows(two.channel)
    two.leads()
    assert await one.services() == ("one", {})
    assert (one.replica.asked, two.control.calls) == (1, [])


async def test_what_only_the_leader_knows_is_asked_of_the_leader_which_asks_whether_it_leads(
    managers: Three,
) -> None:
    one, two, _ = managers
    one.follows(two.channel)
    two.leads()
    assert await one.get() == "two"
    assert (one.replica.asked, two.replica.asked) == (0, 1)


async def test_a_follower_that_is_behind_passes_a_look_on(managers: Three) -> None:
    one, two, _ = managers
    one.follows(two.channel)
    one.replica.index = None
    two.leads()
    assert (await one.services())[0] == "two"


async def test_a_leader_that_nobody_follows_any_more_answers_no_look(managers: Three) -> None:
    one, two, _ = managers
    one.follows(two.channel)
    two.leads()
    two.replica.index = None
    error = await told(one.get())
    assert NO_LEADER in str(error)
    assert two.control.calls == []


async def test_without_a_leader_a_look_is_told_what_can_be_had_all_the_same(managers: Three) -> None:
    one, _, _ = managers
    one.leaders.append(no_leader())
    error = await told(one.services())
    assert str(error).startswith(NO_LEADER)
    assert "swarmctl --stale" in str(error)
    assert str(await told(one.rotate())) == NO_LEADER


async def test_a_stale_look_asks_nobody_and_says_how_old_it_may_be(managers: Three) -> None:
    one, _, _ = managers
    one.leaders.append(no_leader())
    assert await one.services(**STALE) == ("one", {"swarmd-age": "3.250", "swarmd-leader": ""})
    one.replica.age = None
    assert await one.services(**STALE) == ("one", {"swarmd-leader": ""})
    assert (one.replica.asked, one.found) == (0, 0)


async def test_a_stale_stream_is_answered_here_too(managers: Three) -> None:
    one, _, _ = managers
    one.leaders.append(no_leader())
    stub = control_pb2_grpc.ControlStub(one.channel)
    call = stub.Logs(pb.LogsRequest(ref="web"), timeout=60, metadata=tuple(STALE.items()))
    assert [message.line async for message in call] == [b"one", b"two"]


async def test_nothing_is_changed_by_a_manager_that_does_not_lead_however_stale(managers: Three) -> None:
    one, two, _ = managers
    one.follows(two.channel)
    two.leads()
    stub = control_pb2_grpc.ControlStub(one.channel)
    answer = await stub.RotateToken(
        pb.RotateTokenRequest(role="w"), timeout=60, metadata=tuple(STALE.items())
    )
    assert answer.token == "two:w"


async def test_a_worker_has_nothing_stale_to_tell(managers: Three) -> None:
    one, _, _ = managers
    one.leaders.append(not_manager(in_swarm=True))
    assert isinstance(await told(one.services(**STALE)), NotManager)


async def test_a_write_whose_connection_breaks_is_not_called_undone(managers: Three) -> None:
    one, two, three = managers
    one.follows(two.channel)
    one.follows(three.channel)
    two.leads()
    three.leads()
    two.control.gate.clear()
    asking = asyncio.ensure_future(one.rotate())
    await reached(two)
    await two.server.stop(None)
    error = await told(asking)
    assert (type(error), str(error)) == (OutcomeUnknown, LOST)
    assert three.control.calls == []


async def reached(manager: Manager) -> None:
    async with asyncio.timeout(60):
        await manager.control.called.wait()
