"""Calls on a container: through a manager to its node, with back-pressure, ends, and a trail."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from swarmd.api import audit as audit_module
from swarmd.api.audit import Auditing, Trail
from swarmd.api.containers import ContainersHandlers, Elsewhere
from swarmd.api.core.audit import Caller
from swarmd.api.forward import FORWARDED
from swarmd.api.guard import Guard, check_local
from swarmd.api.own_containers import OwnContainers
from swarmd.kit.clock import SystemClock
from swarmd.kit.ids import new_id
from swarmd.model.errors import NotFound
from swarmd.node.containers.server import ContainerServer
from swarmd.node.runtime.core.exits import StartFailed
from swarmd.node.runtime.exec_port import Size
from swarmd.rpc.v1 import containers_pb2 as pb
from swarmd.rpc.v1 import containers_pb2_grpc
from tests.unit.container_fakes import FakeArchives, FakeContainers, FakeSession, local_containers

SECRET = b"hunter2secret"


class Two:
    """A manager without containers, and the node "one" with the container "task1" and others."""

    def __init__(self, directory: Path) -> None:
        self.runtime, self.archives = FakeContainers(), FakeArchives()
        self.runtime.add("task1", task="web.1.task1")
        self.lines: dict[str, list[bytes]] = {"manager": [], "one": []}
        self.there = local_containers(self.runtime, self.archives)
        self.manager_address, self.node_address = (f"unix:{directory}/{name}" for name in ("m", "n"))
        self.servers: list[grpc.aio.Server] = []
        self.channels: list[grpc.aio.Channel] = []
        self.stub: containers_pb2_grpc.ContainersAsyncStub

    async def start(self) -> None:
        node = self._server("one")
        server = ContainerServer(self.there, SystemClock(), remote=True)
        containers_pb2_grpc.add_NodeContainersServicer_to_server(server, node)
        await self._listen(node, self.node_address)
        nothing: Any = None
        own = OwnContainers(local_containers(), SystemClock(), nothing, nothing, new_id)
        manager = self._server("manager")
        passing_on = Trail(lambda line: None, SystemClock(), new_id, lambda: "m").passing_on
        manager.add_generic_rpc_handlers((ContainersHandlers(own, self.find, passing_on),))
        await self._listen(manager, self.manager_address)
        self.stub = containers_pb2_grpc.ContainersStub(self._channel(self.manager_address))

    async def stop(self) -> None:
        for channel in self.channels:
            await channel.close()
        for server in self.servers:
            await server.stop(None)

    async def find(self, ref: str) -> Elsewhere | None:
        if ref != "web.1":
            raise NotFound(f"No such container: {ref}")
        return Elsewhere(container_id="task1", hostname="one", using=self._using)

    @contextlib.contextmanager
    def _using(self) -> Iterator[grpc.aio.Channel]:
        yield self._channel(self.node_address)

    def refuse(self, allow: Any) -> None:
        self.there._allow = allow

    async def lose_the_node(self) -> None:
        await self.servers[0].stop(None)

    def line(self, who: str) -> dict[str, Any]:
        (line,) = self.lines[who]
        found: dict[str, Any] = json.loads(line)
        return found

    def _server(self, name: str) -> grpc.aio.Server:
        trail = Trail(self.lines[name].append, SystemClock(), new_id, lambda: name)
        guard = Guard(lambda method, context: None) if name == "one" else Guard(check_local)
        server = grpc.aio.server(interceptors=[guard, Auditing(trail)])
        self.servers.append(server)
        return server

    async def _listen(self, server: grpc.aio.Server, address: str) -> None:
        server.add_insecure_port(address)
        await server.start()

    def _channel(self, address: str) -> grpc.aio.Channel:
        channel = grpc.aio.insecure_channel(address)
        self.channels.append(channel)
        return channel


def who(context: Any) -> Caller:
    """Both sockets are of this machine; what was passed on stands for a manager's certificate."""
    passed_on = FORWARDED in dict(context.invocation_metadata() or ())
    return Caller(kind="node", node="m1", role="manager") if passed_on else Caller(kind="local socket")


@pytest.fixture
async def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Two]:
    monkeypatch.setattr(audit_module, "_direct", who)
    two = Two(tmp_path)
    try:
        await two.start()
        yield two
    finally:
        await two.stop()


def an_exec(*args: str, **fields: Any) -> pb.SessionInput:
    return pb.SessionInput(ref="web.1", command=pb.ExecCommand(args=args, **fields))


async def all_of(call: Any) -> list[pb.SessionOutput]:
    async with asyncio.timeout(60):
        return [answer async for answer in call]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def stands_still(number: Callable[[], int]) -> int:
    """The number once it has not grown for a while."""
    before = -1
    async with asyncio.timeout(60):
        while number() != before:
            before = number()
            await asyncio.sleep(0.3)
    return before


async def test_a_program_is_run_on_another_node(two: Two) -> None:
    two.runtime.session = FakeSession((1, b"out"), (2, b"err"), code=3)

    async def typed() -> AsyncIterator[pb.SessionInput]:
        yield an_exec("sh", "-c", "x", env=["A=1"], user="web", tty=True, stdin=True)
        yield pb.SessionInput(stdin=b"one")
        yield pb.SessionInput(size=pb.TerminalSize(rows=5, columns=6))
        yield pb.SessionInput(signal="SIGINT")
        yield pb.SessionInput(stdin=b"two")
        yield pb.SessionInput(end=True)

    answers = await all_of(two.stub.Exec(typed()))
    assert [answer.WhichOneof("body") for answer in answers] == [None, "stdout", "stderr", "end"]
    assert (answers[0].started.container_id, answers[0].started.node) == ("task1", "one")
    assert (answers[1].stdout, answers[2].stderr, answers[3].end.exit_code) == (b"out", b"err", 3)
    assert two.runtime.session.input == [b"one", b"two"]
    assert two.runtime.session.log[:3] == [Size(rows=5, columns=6), "SIGINT", "end"]
    (wanted,) = two.runtime.executed
    assert (wanted.args, wanted.env, wanted.user, wanted.tty) == (("sh", "-c", "x"), ("A=1",), "web", True)
    assert two.runtime.session.closed.is_set()


async def test_an_image_is_made_on_the_node_of_the_task(two: Two) -> None:
    request = pb.CommitRequest(ref="web.1", image="made:1", message="secret words", pause=True)
    answer = await two.stub.Commit(request)
    assert (answer.id, answer.node) == ("sha256:task1", "one")
    await until(lambda: two.lines["one"] and two.lines["manager"])
    assert two.line("one")["fields"] == {"image": "made:1", "pause": True}
    assert two.line("manager")["answer"] == {"id": "sha256:task1", "node": "one"}
    two.refuse("none")
    with pytest.raises(grpc.aio.AioRpcError, match="node one refuses commit"):
        await two.stub.Commit(request)


async def test_manager_and_node_each_write_one_line_under_one_id_without_what_was_said(two: Two) -> None:
    two.runtime.session = FakeSession((1, SECRET), code=7)

    async def typed() -> AsyncIterator[pb.SessionInput]:
        yield an_exec("cat", "/x", env=[f"PASSWORD={SECRET.decode()}"], stdin=True)
        yield pb.SessionInput(stdin=SECRET)

    await all_of(two.stub.Exec(typed()))
    await until(lambda: two.lines["one"] and two.lines["manager"])
    manager, node = two.line("manager"), two.line("one")
    assert (manager["method"], node["method"]) == ("Containers/Exec", "NodeContainers/Exec")
    assert (manager["target"], node["target"]) == ("web.1", "task1")
    for line in (manager, node):
        assert line["fields"] == {"command.args": ["cat", "/x"]}
        assert line["answer"] == {"end.exit_code": 7}
        assert (line["outcome"], line["caller"]["kind"]) == ("ok", "local socket")
    assert manager["request"] == node["request"]
    assert node["caller"]["via"] == "m1"
    assert SECRET not in b"".join(two.lines["manager"] + two.lines["one"])


async def test_a_program_that_does_not_read_makes_the_user_wait(two: Two) -> None:
    two.runtime.session.takes.clear()
    sent = 0

    async def typed() -> AsyncIterator[pb.SessionInput]:
        nonlocal sent
        yield an_exec("sleep", "1", stdin=True)
        while True:
            yield pb.SessionInput(stdin=bytes(32 << 10))
            sent += 32 << 10

    call = two.stub.Exec(typed())
    reading = asyncio.ensure_future(call.read())
    assert await stands_still(lambda: sent) < 32 << 20
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading


async def test_a_terminal_that_is_slow_makes_the_program_wait(two: Two) -> None:
    two.runtime.session = FakeSession(endless=True)
    call = two.stub.Exec(iter([an_exec("yes")]))
    assert (await call.read()).HasField("started")
    assert await stands_still(lambda: two.runtime.session.given) < 32 << 20
    call.cancel()
    await asyncio.wait_for(two.runtime.session.closed.wait(), 60)


async def test_a_user_who_goes_away_ends_the_session_and_its_line_says_so(two: Two) -> None:
    two.runtime.session = FakeSession(deaf=True)
    call = two.stub.Exec(iter([an_exec("sleep", "1")]))
    assert (await call.read()).HasField("started")
    call.cancel()
    await asyncio.wait_for(two.runtime.session.closed.wait(), 60)
    await until(lambda: two.lines["one"])
    assert two.line("one")["outcome"] == "cancelled"


async def test_a_node_that_is_lost_is_named(two: Two) -> None:
    two.runtime.session = FakeSession((1, b"x"))

    async def typed() -> AsyncIterator[pb.SessionInput]:
        yield an_exec("sleep", "1", stdin=True)
        await asyncio.Event().wait()

    call = two.stub.Exec(typed())
    assert (await call.read()).HasField("started")
    assert (await call.read()).stdout == b"x"
    await two.lose_the_node()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(call.read(), 60)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "the way to node one is broken, where container task1 is and may run on" in str(
        caught.value.details()
    )
    call.cancel()


async def test_a_program_that_cannot_be_executed_ends_with_its_code_and_sentence(two: Two) -> None:
    two.runtime.failure = StartFailed('exec: "no": executable file not found in $PATH', 127)
    (answer,) = await all_of(two.stub.Exec(iter([an_exec("no")])))
    assert (answer.end.exit_code, answer.end.error) == (127, 'exec: "no": executable file not found in $PATH')


async def test_a_detached_program_is_let_go(two: Two) -> None:
    (answer,) = await all_of(two.stub.Exec(iter([an_exec("x", detach=True)])))
    assert answer.HasField("started")
    assert two.runtime.executed[0].detach
    assert two.runtime.session.closed.is_set()


@pytest.mark.parametrize("allow", ["none", "local"])
async def test_a_node_refuses_with_its_name(two: Two, allow: str) -> None:
    two.refuse(allow)
    for call in (
        two.stub.Exec(iter([an_exec("sh")])),
        two.stub.Attach(iter([pb.SessionInput(ref="web.1")])),
        two.stub.CopyOut(pb.CopyOutRequest(ref="web.1", path="/f")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await all_of(call)
        assert "node one refuses" in str(caught.value.details())
        assert f'(setting exec_allow = "{allow}")' in str(caught.value.details())
    assert two.runtime.executed == []
    assert (await two.stub.Diff(pb.ContainerRequest(ref="web.1"))).changes[0].path == "/new"


def test_who_may_open_the_nodes_own_socket_is_let_in_by_local_and_not_by_none() -> None:
    local_containers(allow="local").admit("exec", remote=False)
    with pytest.raises(Exception, match="its operator lets nobody into containers"):
        local_containers(allow="none").admit("exec", remote=False)


@pytest.mark.parametrize("status", ["created", "exited"])
async def test_what_does_not_run_is_said(two: Two, status: str) -> None:
    two.runtime.add("task1", status=status, task="web.1.task1")
    with pytest.raises(grpc.aio.AioRpcError, match=r"container web.1.task1 is not running"):
        await all_of(two.stub.Exec(iter([an_exec("sh")])))
    if status == "exited":
        with pytest.raises(grpc.aio.AioRpcError, match="You cannot attach to a stopped container"):
            await all_of(two.stub.Attach(iter([pb.SessionInput(ref="web.1")])))


async def test_files_travel_both_ways(two: Two) -> None:
    pieces = [answer.data async for answer in two.stub.CopyOut(pb.CopyOutRequest(ref="web.1", path="/f"))]
    assert b"".join(pieces) == b"a tar stream"
    with pytest.raises(grpc.aio.AioRpcError, match="Could not find the file /no in container task1"):
        await all_of(two.stub.CopyOut(pb.CopyOutRequest(ref="web.1", path="/no")))
    await two.stub.CopyIn(
        iter([pb.CopyInRequest(ref="web.1", path="/d", data=b"one "), pb.CopyInRequest(data=b"two")])
    )
    assert bytes(two.archives.written) == b"one two"


async def test_the_short_calls_reach_the_node(two: Two) -> None:
    request = pb.ContainerRequest(ref="web.1")
    assert (await two.stub.Pause(request)).container_id == "task1"
    await two.stub.Unpause(request)
    await two.stub.Kill(pb.KillRequest(ref="web.1", signal="SIGHUP"))
    await two.stub.SetLimits(pb.SetLimitsRequest(ref="web.1", memory=5 << 20))
    assert [entry[:2] for entry in two.runtime.log] == [
        (name, "task1") for name in ("pause", "resume", "kill", "update")
    ]
    assert two.runtime.log[2][2] == "SIGHUP"
    assert two.runtime.log[3][2].memory == 5 << 20
    assert (await two.stub.Wait(request)).exit_code == 0
    (answer,) = [one async for one in two.stub.Stats(pb.StatsRequest(refs=["web.1"]))]
    assert (answer.containers[0].name, answer.containers[0].pids) == ("web.1.task1", 2)
    with pytest.raises(grpc.aio.AioRpcError, match="nothing to change"):
        await two.stub.SetLimits(pb.SetLimitsRequest(ref="web.1"))


async def test_what_nobody_knows_is_said_as_docker_says_it(two: Two) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="No such container: ghost"):
        await two.stub.Diff(pb.ContainerRequest(ref="ghost"))
