"""The audit log: what a line says, what it never says, and whose word it takes for who asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from deploy.setup.api_reference import methods
from swarmd.api.audit import Auditing, Trail
from swarmd.api.core import audit
from swarmd.api.core.audit import QUIET, SHOWN, Caller
from swarmd.api.core.flood import KEPT, MOST, PERIOD, Flood
from swarmd.api.forward import Forwarding, Leader
from swarmd.api.guard import Guard, check_local
from swarmd.model.errors import Denied, Invalid, NotFound
from swarmd.rpc import errors
from swarmd.rpc.v1 import control_pb2, node_pb2, peer_pb2, types_pb2
from swarmd.store.raft.single import SingleProposer
from tests.unit.test_control_bed import Bed, eventually
from tests.unit.test_rpc_roles import Port, port

__all__ = ["port"]

SECRET = "hunter2secret"


def short(name: str) -> str:
    return f"/swarmd.rpc.v1.{name}"


def message_of(name: str, *, answer: bool = False) -> type[Message]:
    method = methods()[short(name)]
    kind = method.output_type if answer else method.input_type
    return kind._concrete_class


def filled(message: Message, mark: str) -> Any:
    """Every text in a message is ``mark`` with a number; lists and maps have one entry."""
    count = 0

    def fill(part: Message) -> None:
        nonlocal count
        for field in part.DESCRIPTOR.fields:
            count += 1
            text = f"{mark}{count:03d}"
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                value_of = field.message_type.fields_by_name["value"]
                is_text = value_of.type == value_of.TYPE_STRING
                getattr(part, field.name)[f"key{count}"] = text if is_text else count
            elif field.message_type is not None:
                fill(getattr(part, field.name).add() if field.is_repeated else getattr(part, field.name))
            elif field.type in (field.TYPE_STRING, field.TYPE_BYTES):
                value = text if field.type == field.TYPE_STRING else text.encode()
                if field.is_repeated:
                    getattr(part, field.name).append(value)
                else:
                    setattr(part, field.name, value)

    fill(message)
    return message


# -- the lists -----------------------------------------------------------------------------------


def test_what_is_listed_exists() -> None:
    known = {audit.short_name(path) for path in methods()} | {"ClusterPort/Join", "ClusterPort/Connect"}
    assert sorted((SHOWN.keys() | QUIET) - known) == []
    assert sorted(SHOWN.keys() & QUIET) == []
    for name, shown in SHOWN.items():
        if name == "ClusterPort/Join":
            assert audit.described(name, None, peer_pb2.JoinReply(node_id="n", role="worker"))[2]
            continue
        if name == "ClusterPort/Connect":
            assert shown == audit.Shown()
            continue
        for answer, paths in ((False, (shown.target, *shown.more)), (True, shown.answer)):
            for path in filter(None, paths):
                audit._at(message_of(name, answer=answer)(), path)


def test_every_call_that_changes_something_is_recorded() -> None:
    reads = ("Get", "List", "Read", "Info", "Logs", "TaskLogs", "Session", "Locate", "Leave", "Find", "Holds",
             "StatPath", "Diff", "Top", "Stats", "Wait", "Examine", "Trace")  # fmt: skip
    for path in methods():
        name = audit.short_name(path)
        if name in QUIET:
            assert name.partition("/")[2].startswith(reads), name
    assert "Control/GetCluster" not in QUIET, "it tells the standing tokens"


@pytest.mark.parametrize("path", methods())
def test_no_line_says_a_text_that_is_not_listed(path: str) -> None:
    name = audit.short_name(path)
    request, answer = filled(message_of(name)(), "asked"), filled(message_of(name, answer=True)(), "told")
    told = [json.dumps(part) for part in audit.described(name, request, answer)]
    shown = SHOWN.get(name, audit.Shown())
    allowed = [audit._at(request, path) for path in (shown.target, *shown.more) if path]
    allowed += [audit._at(answer, path) for path in shown.answer]
    text = "".join(told)
    for one in filter(lambda one: isinstance(one, str | dict | list), allowed):
        text = text.replace(json.dumps(one), "")
    assert "asked" not in text
    assert "told" not in text


@pytest.mark.parametrize(
    "word", ["env", "token", "csr", "key", "command", "args", "source_data", "data", "secret"]
)
def test_nothing_that_may_hold_a_secret_is_listed(word: str) -> None:
    paths = {
        path
        for name, shown in SHOWN.items()
        if not name.endswith("/Exec")  # its command is what its line is for: docs/decisions/0021
        for path in (shown.target, *shown.more, *shown.answer)
        if word in path.replace("_", ".").split(".")
    }
    assert paths == set()


# -- sentences -----------------------------------------------------------------------------------


def service(*env: str, name: str = "web") -> control_pb2.CreateServiceRequest:
    container = types_pb2.ContainerSpec(image="nginx:1", env=env)
    spec = types_pb2.ServiceSpec(name=name, template=types_pb2.TaskTemplate(container=container))
    return control_pb2.CreateServiceRequest(spec=spec)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("invalid", f'env "={SECRET}" has no name: write NAME=value'),
        ("invalid", f"env 'A={SECRET}\\x00' contains a zero byte: remove it"),
        ("invalid", f'env "A={SECRET}"quoted" is odd'),
        ("conflict", f"the variable A={SECRET} is there twice"),
        ("refused", f"{SECRET} cannot be had"),
    ],
)
def test_a_sentence_does_not_quote_what_is_not_shown(kind: str, text: str) -> None:
    said = audit.sentence("Control/CreateService", kind, text, service(f"A={SECRET}"))
    assert SECRET not in said
    assert len(said) > 5


def test_a_quotation_is_cut_out_also_where_it_is_spelt_otherwise_than_in_the_request() -> None:
    value = f"A=x\0{SECRET}"
    said = audit.sentence(
        "Control/CreateService", "invalid", f"env {value!r} has a zero byte", service(value)
    )
    assert said == "env … has a zero byte"


def test_a_sentence_keeps_what_is_shown() -> None:
    text = "name conflicts with an existing object: service web1 already exists"
    assert audit.sentence("Control/CreateService", "conflict", text, service(name="web1")) == text


# -- small rules ---------------------------------------------------------------------------------


def test_times_are_of_one_width_and_compare_as_text() -> None:
    line = audit.encode(
        audit.Line(
            time=audit.timestamp(1000.5), node="n", request="r", caller=Caller(), method="m", outcome="ok"
        )
    )
    assert audit.timestamp(1000.5) == "1970-01-01T00:16:40.500Z"
    assert [audit.is_since(line, at) for at in (0.0, 999.0, 1000.5, 1000.6)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("name", "outcome", "role", "recorded"),
    [
        ("Authority/Renew", "ok", "worker", False),
        ("Authority/Renew", "ok", "manager", True),
        ("Authority/Renew", "denied", "worker", True),
        ("Control/ListNodes", "ok", "", False),
        ("Control/ListNodes", "denied", "", True),
        ("Control/GetCluster", "ok", "", True),
        ("Some/NewCall", "ok", "", True),
    ],
)
def test_what_is_worth_a_line(name: str, outcome: str, role: str, recorded: bool) -> None:
    from swarmd.rpc.v1 import agent_pb2

    caller = Caller(kind="node", role="worker")
    assert audit.is_recorded(name, outcome, caller, agent_pb2.RenewResponse(role=role)) is recorded


@pytest.mark.parametrize(
    ("name", "outcome", "limited"),
    [
        ("ClusterPort/Join", "ok", False),
        ("ClusterPort/Join", "invalid", True),
        ("Authority/Join", "unavailable", True),
        ("Control/RemoveNode", "denied", True),
        ("Control/RemoveNode", "invalid", False),
    ],
)
def test_what_a_stranger_can_cause_is_limited(name: str, outcome: str, limited: bool) -> None:
    assert audit.may_flood(name, outcome) is limited


async def test_one_stranger_behind_a_manager_does_not_hide_another(port: Port) -> None:
    from swarmd.rpc.v1 import agent_pb2

    call = port.channel("manager").unary_unary(short("Authority/Join"))
    for address, times in (("10.0.0.1", MOST + 5), ("10.0.0.2", 1)):
        request = agent_pb2.ForwardedJoin(token_secret="x", csr_pem=b"x", address=address)
        for _ in range(times):
            with pytest.raises(grpc.aio.AioRpcError):
                await call(request.SerializeToString(), timeout=60)
    # The last line may be written when its answer is here already.
    await eventually(lambda: b"10.0.0.2" in b"".join(port.audit))
    targets = [json.loads(line)["target"] for line in port.audit]
    assert (targets.count("10.0.0.1"), targets.count("10.0.0.2")) == (MOST, 1)


def test_a_flood_of_refusals_is_counted_and_others_are_still_heard() -> None:
    flood = Flood()
    written = [flood.admit("loud", 0.0) for _ in range(MOST + 7)]
    assert written == [0] * MOST + [None] * 7
    assert flood.admit("quiet", 1.0) == 0
    assert flood.admit("loud", PERIOD) == 7, "the next line says how many were left out"
    for number in range(3 * KEPT):
        flood.admit(f"caller{number}", PERIOD + 1)
    assert len(flood._windows) <= KEPT + 1


# -- over gRPC -----------------------------------------------------------------------------------


class Served(grpc.GenericRpcHandler):
    """Answers or fails as a test says."""

    def __init__(self) -> None:
        self.answer: Message | Exception | None = None

    def service(self, details: Any) -> Any:
        method = methods()[details.method]

        async def call(request: Any, context: Any) -> Message:
            if isinstance(self.answer, Exception):
                if isinstance(self.answer, Invalid | NotFound):
                    await errors.abort(context, self.answer)
                raise self.answer
            return self.answer or method.output_type._concrete_class()

        async def stream(request: Any, context: Any) -> AsyncIterator[Message]:
            yield await call(request, context)

        codec: Any = {
            "request_deserializer": method.input_type._concrete_class.FromString,
            "response_serializer": lambda answer: answer.SerializeToString(),
        }
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(call, **codec)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, **codec)
        return grpc.unary_unary_rpc_method_handler(call, **codec)


class Socket(Bed):
    """The unix socket of a manager that leads, or follows ``leads_to``."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.lines: list[bytes] = []
        self.served = Served()
        self.leads_to: Any = None
        self.trail = Trail(self.lines.append, self.clock, self.new_id, lambda: "n1")

    async def start(self) -> None:
        import asyncio

        async def find() -> Leader:
            return Leader(self.leads_to, asyncio.Event())

        self.server = grpc.aio.server(
            interceptors=[
                Guard(check_local, self.trail.refused),
                Forwarding(find, lambda: SingleProposer(self.state), self.clock, self.trail.passing_on),
                Auditing(self.trail),
            ]
        )
        self.server.add_generic_rpc_handlers((self.served,))
        self.server.add_insecure_port(f"unix:{self.path}")
        await self.server.start()

    async def call(self, name: str, request: bytes = b"", metadata: Any = ()) -> str:
        async with grpc.aio.insecure_channel(f"unix:{self.path}") as channel:
            try:
                async for _ in channel.unary_stream(short(name))(request, metadata=metadata, timeout=60):
                    pass
            except grpc.aio.AioRpcError as error:
                return error.code().name
        return "OK"

    def last(self) -> Any:
        return json.loads(self.lines[-1])


@pytest.fixture
async def socket(tmp_path: Path) -> AsyncIterator[Socket]:
    socket = Socket(tmp_path / "s")
    await socket.start()
    yield socket
    await socket.server.stop(None)


async def test_a_line_says_who_did_what_to_what_and_what_came_of_it(socket: Socket) -> None:
    socket.served.answer = control_pb2.CreateServiceResponse(id="svc1")
    assert await socket.call("Control/CreateService", service(f"A={SECRET}").SerializeToString()) == "OK"
    line = socket.last()
    assert line.pop("time").startswith("20")
    assert line == {
        "node": "n1",
        "request": "id001",
        "caller": {"kind": "local socket"},
        "method": "Control/CreateService",
        "target": "web",
        "fields": {"spec.template.container.image": "nginx:1"},
        "answer": {"id": "svc1"},
        "outcome": "ok",
        "duration_ms": 0.0,
    }


async def test_a_refusal_of_the_method_has_its_kind_and_sentence(socket: Socket) -> None:
    socket.served.answer = NotFound("service web not found")
    request = control_pb2.RemoveServiceRequest(ref="web").SerializeToString()
    assert await socket.call("Control/RemoveService", request) == "NOT_FOUND"
    line = socket.last()
    assert (line["outcome"], line["error"], line["target"]) == ("not_found", "service web not found", "web")


async def test_what_nobody_foresaw_is_recorded_without_its_words(socket: Socket) -> None:
    socket.served.answer = KeyError(SECRET)
    assert await socket.call("Control/RotateToken") == "INTERNAL"
    assert socket.last()["outcome"] == "internal"
    assert SECRET.encode() not in b"".join(socket.lines)


async def test_a_call_that_the_guard_refuses_is_recorded_and_reads_are_not(socket: Socket) -> None:
    assert await socket.call("Control/ListNodes") == "OK"
    assert socket.lines == []
    assert await socket.call("NodePeer/GetBlob") == "PERMISSION_DENIED"
    line = socket.last()
    assert (line["method"], line["outcome"]) == ("NodePeer/GetBlob", "denied")
    assert "nobody may call" in line["error"]


async def test_a_user_of_the_socket_cannot_pass_for_somebody_else(socket: Socket) -> None:
    lies = (("swarmd-forwarded", "1"), ("swarmd-caller", "node boss"), ("swarmd-request-id", "mine"))
    await socket.call("Control/RotateToken", metadata=lies)
    assert (socket.last()["caller"], socket.last()["request"]) == ({"kind": "local socket"}, "id001")


async def test_the_leader_writes_who_asked_the_follower(socket: Socket, port: Port) -> None:
    socket.leads_to = port.channel("manager")
    request = control_pb2.RemoveServiceRequest(ref="web").SerializeToString()
    assert await socket.call("Control/RemoveService", request) == "NOT_FOUND"
    assert socket.lines == [], "the follower carried nothing out"
    await eventually(lambda: port.audit)  # it is written behind the answer
    (line,) = map(json.loads, port.audit)
    assert line["caller"].pop("address").startswith("ipv4:127.0.0.1")
    assert line["caller"] == {"kind": "local socket", "via": "manager"}
    assert (line["request"], line["method"], line["target"]) == ("id001", "Control/RemoveService", "web")
    assert (line["node"], line["outcome"]) == ("manager", "not_found")


async def test_the_node_port_records_whom_it_refuses_by_the_certificate(port: Port) -> None:
    channel = port.channel("worker")
    with pytest.raises(grpc.aio.AioRpcError):
        await channel.unary_unary(short("Control/ListServices"))(b"", timeout=60)
    await eventually(lambda: port.audit)  # it is written behind the answer
    (line,) = map(json.loads, port.audit)
    assert (line["caller"]["node"], line["caller"]["role"]) == ("worker", "worker")
    assert (line["outcome"], line["error"]) == ("denied", "only managers may make this call")


async def test_a_join_passed_on_shows_the_node_and_neither_token_nor_request(port: Port) -> None:
    from swarmd.rpc.v1 import agent_pb2
    from swarmd.security import ca
    from tests.unit.test_rpc_roles import SECRET as TOKEN

    csr = ca.new_request(ca.new_key())
    request = agent_pb2.ForwardedJoin(token_secret=TOKEN, csr_pem=csr, address="10.9.8.7")
    await port.channel("manager").unary_unary(short("Authority/Join"))(
        request.SerializeToString(), timeout=60
    )
    await eventually(lambda: port.audit)  # it is written behind the answer
    (line,) = map(json.loads, port.audit)
    assert (line["target"], line["answer"]["role"], line["outcome"]) == ("10.9.8.7", "worker", "ok")
    assert TOKEN.encode() not in port.audit[0]
    assert b"BEGIN" not in port.audit[0]


async def test_a_stranger_at_the_join_lane_is_recorded_once_it_asks_for_a_certificate(socket: Socket) -> None:
    async def answer(request: peer_pb2.JoinRequest, address: str) -> peer_pb2.JoinReply:
        if request.token_secret == "right":
            return peer_pb2.JoinReply(node_id="n7", role="worker", certificate_pem=b"x")
        return peer_pb2.JoinReply(error_kind=Denied.kind, error="A valid join token is necessary")

    lane = socket.trail.joins(answer)
    await lane(peer_pb2.JoinRequest(), "10.0.0.9")
    assert socket.lines == []
    await lane(peer_pb2.JoinRequest(csr_pem=b"c", token_secret="right"), "10.0.0.9")
    line = socket.last()
    assert (line["caller"], line["answer"]) == (
        {"kind": "stranger", "address": "10.0.0.9"}, {"node_id": "n7", "role": "worker"},
    )  # fmt: skip
    for _ in range(MOST + 5):
        await lane(peer_pb2.JoinRequest(csr_pem=b"c", token_secret=SECRET), "10.0.0.9")
    assert len(socket.lines) == 1 + MOST
    assert socket.last()["outcome"] == "denied"
    assert SECRET.encode() not in b"".join(socket.lines)


async def test_no_call_of_any_kind_leaves_a_marked_secret_in_the_log(socket: Socket) -> None:
    for path, method in methods().items():
        name = audit.short_name(path)
        listed = SHOWN.get(name, audit.Shown())
        request = filled(method.input_type._concrete_class(), SECRET)
        answer = filled(method.output_type._concrete_class(), SECRET)
        for field in (listed.target, *listed.more):
            _clear(request, field)
        for field in listed.answer:
            _clear(answer, field)
        found = next(audit._texts(request, set(), ""), "it")
        quoting = NotFound(f"no {found} here") if not method.client_streaming else NotFound("not here")
        for ending in (answer, Invalid(f'"{found}" is wrong'), Invalid(f"{found} is wrong"), quoting):
            socket.served.answer = ending
            await socket.call(name, request.SerializeToString())
    text = b"".join(socket.lines)
    assert text.count(b'"method"') > 60
    assert SECRET.encode() not in text


def _clear(message: Any, path: str) -> None:
    *parents, last = path.split(".")
    for name in parents:
        message = getattr(message, name)
    if last:
        message.ClearField(last)


async def test_reading_the_log_is_a_stream_of_lines_since_a_time() -> None:
    from swarmd.api.node import NodeServer

    class Actions:
        async def audit(self, *, tail: int, follow: bool) -> AsyncIterator[bytes]:
            assert (tail, follow) == (5, True)
            for at in (10.0, 20.0):
                yield b'{"time":"%s"}' % audit.timestamp(at).encode()

    server: Any = NodeServer(Actions(), None, None)  # type: ignore[arg-type]
    request = node_pb2.ReadAuditRequest(tail=5, follow=True, since=15.0)
    found = [answer.line async for answer in server.ReadAudit(request, None)]
    assert found == [b'{"time":"1970-01-01T00:00:20.000Z"}']


class Going:
    """A call's context as gRPC has it: asked for its peer once the connection is gone, it ends the daemon."""

    gone = False

    def peer(self) -> str:
        assert not self.gone, "asked too late"
        return "unix:"

    def invocation_metadata(self) -> tuple[()]:
        assert not self.gone, "asked too late"
        return ()


async def test_who_asked_is_looked_up_before_the_call_not_when_its_connection_may_be_gone(
    socket: Socket,
) -> None:
    context = Going()
    request = control_pb2.RemoveServiceRequest(ref="web")
    watching = socket.trail.watching(short("Control/RemoveService"), context, request)
    watching.__enter__()
    context.gone = True
    left = GeneratorExit()
    assert not watching.__exit__(GeneratorExit, left, left.__traceback__)
    assert (socket.last()["caller"], socket.last()["outcome"]) == ({"kind": "local socket"}, "cancelled")
