"""A daemon that answers with canned messages on a unix socket, and how the client takes its errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from swarmd.cli.client import connect
from swarmd.cli.errors import DaemonError, Unreachable
from swarmd.cli.main import run
from swarmd.rpc.v1 import (
    build_pb2_grpc,
    containers_pb2_grpc,
    control_pb2,
    control_pb2_grpc,
    images_pb2_grpc,
    netdiag_pb2_grpc,
    networks_pb2_grpc,
    node_pb2,
    node_pb2_grpc,
    registry_pb2_grpc,
    types_pb2,
)

STREAMED = ("LoadImages", "ImportImage", "RestoreSwarm")
NODE_ID = "cik8i1ye88sc6audh2puec6ye"
Cli = Callable[..., tuple[int, str, str]]


class Refusal(NamedTuple):
    """An answer that is an error."""

    text: str
    kind: str = "invalid"
    code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT


class FakeDaemon:
    """``answers``: method name to message, Refusal or function of the request; ``requests``: what came."""

    def __init__(self, socket: Path) -> None:
        self.host = f"unix://{socket}"
        self.answers: dict[str, Any] = {}
        self.requests: list[tuple[str, Any]] = []
        self.stale: list[str] = []
        self.told: tuple[tuple[str, str], ...] = ()
        self._server = grpc.server(ThreadPoolExecutor(4))
        control_pb2_grpc.add_ControlServicer_to_server(
            self._servicer(control_pb2_grpc.ControlServicer), self._server
        )
        node_pb2_grpc.add_NodeApiServicer_to_server(
            self._servicer(node_pb2_grpc.NodeApiServicer), self._server
        )
        images_pb2_grpc.add_ImagesServicer_to_server(
            self._servicer(images_pb2_grpc.ImagesServicer), self._server
        )
        build_pb2_grpc.add_BuilderServicer_to_server(
            self._servicer(build_pb2_grpc.BuilderServicer), self._server
        )
        registry_pb2_grpc.add_RegistryServicer_to_server(
            self._servicer(registry_pb2_grpc.RegistryServicer), self._server
        )
        networks_pb2_grpc.add_NetworksServicer_to_server(
            self._servicer(networks_pb2_grpc.NetworksServicer), self._server
        )
        netdiag_pb2_grpc.add_NetworkDoctorServicer_to_server(
            self._servicer(netdiag_pb2_grpc.NetworkDoctorServicer), self._server
        )
        containers_pb2_grpc.add_ContainersServicer_to_server(
            self._servicer(containers_pb2_grpc.ContainersServicer), self._server
        )
        assert self._server.add_insecure_port(self.host)
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def asked(self, name: str) -> list[Any]:
        """The requests of one method."""
        return [request for method, request in self.requests if method == name]

    def _servicer(self, base: type) -> Any:
        names = [name for name in dir(base) if name[0].isupper()]
        return type("Fake", (base,), {name: self._method(name) for name in names})()

    def _method(self, name: str) -> Callable[..., Any]:
        def answer(_: object, request: Any, context: grpc.ServicerContext) -> Any:
            request = list(request) if name in STREAMED else request
            self.requests.append((name, request))
            if dict(context.invocation_metadata()).get("swarmd-read") == "stale":
                self.stale.append(name)
                context.set_trailing_metadata(self.told)
            found = self.answers[name]
            found = found(request) if callable(found) else found
            if isinstance(found, Refusal):
                context.set_trailing_metadata((("swarmd-kind", found.kind),))
                context.abort(found.code, found.text)
            return found

        return answer


def fake_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    """The body of a fixture: a daemon that every command line of the test means."""
    fake = FakeDaemon(tmp_path / "swarmd.sock")
    monkeypatch.setenv("SWARMCTL_HOST", fake.host)
    monkeypatch.setenv("SWARMCTL_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("SWARMCTL_CONTEXT", raising=False)
    fake.answers["Info"] = node_pb2.InfoResponse(
        node_id=NODE_ID, node_address="192.168.77.11", is_manager=True
    )
    yield fake
    fake.stop()


def command_line(capsys: pytest.CaptureFixture[str]) -> Cli:
    """The body of a fixture: runs a command line; answers exit code, output, error output."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        return code, *capsys.readouterr()

    return call


def node(hostname: str = "n1", identity: str = NODE_ID) -> control_pb2.NodeView:
    about = types_pb2.NodeDescription(hostname=hostname, engine_version="0.1.0")
    return control_pb2.NodeView(
        node=types_pb2.Node(
            id=identity,
            spec=types_pb2.NodeSpec(role="manager", availability="active"),
            description=about,
            status=types_pb2.NodeStatus(state="ready"),
            raft_address="192.168.77.11:2377",
        ),
        manager_status="Leader",
    )


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    yield from fake_daemon(tmp_path, monkeypatch)


def test_an_answer_comes_back(daemon: FakeDaemon) -> None:
    daemon.answers["Info"] = node_pb2.InfoResponse(hostname="n1")
    with connect(daemon.host) as client:
        assert client.node.Info(node_pb2.InfoRequest()).hostname == "n1"


def test_a_refusal_is_a_daemon_error_with_its_kind(daemon: FakeDaemon) -> None:
    daemon.answers["Info"] = Refusal("no such thing", "not_found", grpc.StatusCode.NOT_FOUND)
    with connect(daemon.host) as client, pytest.raises(DaemonError) as caught:
        client.node.Info(node_pb2.InfoRequest())
    assert (str(caught.value), caught.value.kind) == (
        "Error response from daemon: no such thing",
        "not_found",
    )


def test_a_daemon_that_is_unavailable_is_not_taken_for_an_absent_one(daemon: FakeDaemon) -> None:
    daemon.answers["Info"] = Refusal("no leader", "unavailable", grpc.StatusCode.UNAVAILABLE)
    with connect(daemon.host) as client, pytest.raises(DaemonError, match="no leader"):
        client.node.Info(node_pb2.InfoRequest())


KNEW = "as this manager knew it"
HEARD_OF_NONE = "as this manager last knew it; it has heard of no leader since its daemon started"


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"swarmd-leader": "", "swarmd-age": "12.345"}, f"{KNEW} 12.3 s ago; it knows of no leader now"),
        ({"swarmd-leader": "x", "swarmd-age": "0.04"}, f"{KNEW} 0.0 s ago"),
        ({"swarmd-leader": ""}, HEARD_OF_NONE),
    ],
)
def test_stale_answers_are_shown_with_their_age_on_standard_error(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], told: dict[str, str], text: str
) -> None:
    daemon.told = tuple(told.items())
    daemon.answers["ListNodes"] = control_pb2.ListNodesResponse(nodes=[node("n1")])
    assert run(["--stale", "node", "ls", "-q"]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (f"{NODE_ID}\n", f"WARNING: {text}\n")
    assert daemon.stale == ["ListNodes"]


def test_nothing_is_stale_unless_it_is_asked_for(daemon: FakeDaemon) -> None:
    daemon.answers["ListNodes"] = control_pb2.ListNodesResponse(nodes=[node("n1")])
    assert run(["node", "ls", "-q"]) == 0
    assert daemon.stale == []


def test_an_absent_daemon_is_said_to_be_absent(tmp_path: Path) -> None:
    host = f"unix://{tmp_path}/none.sock"
    with connect(host) as client, pytest.raises(Unreachable) as caught:
        client.node.Info(node_pb2.InfoRequest())
    assert str(caught.value) == f"Cannot connect to the swarmd daemon at {host}. Is the daemon running?"


def test_a_call_that_is_not_answered_in_time_says_so(daemon: FakeDaemon) -> None:
    release = threading.Event()
    daemon.answers["Info"] = lambda _: release.wait(20) and node_pb2.InfoResponse()
    with connect(daemon.host) as client, pytest.raises(DaemonError, match="not answered in time"):
        client.node.Info(node_pb2.InfoRequest(), timeout=0.2)
    release.set()
