"""``swarmctl exec`` and ``attach`` on a real terminal, against a daemon that echoes: nothing is left raw."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from swarmd.rpc.v1 import containers_pb2 as pb
from swarmd.rpc.v1 import containers_pb2_grpc
from tests.unit.terminal import PATIENCE, SWARMCTL, Screen

# gRPC method names are the protocol's.
# ruff: noqa: N802


class Echo(containers_pb2_grpc.ContainersServicer):
    """Says what it is told; "q" ends it with 5, "x" with an error."""

    def __init__(self) -> None:
        self.first: list[pb.SessionInput] = []

    def GetContainer(self, request: Any, context: Any) -> pb.GetContainerResponse:
        return pb.GetContainerResponse(
            container=pb.ContainerView(id="box", status="running"), tty=request.ref == "tty", stdin=True
        )

    def Exec(self, request_iterator: Any, context: Any) -> Iterator[pb.SessionOutput]:
        self.first.append(next(request_iterator))
        yield pb.SessionOutput(started=pb.SessionStarted(container_id="box"))
        yield pb.SessionOutput(stdout=b"hello ")
        for message in request_iterator:
            kind = message.WhichOneof("body")
            if kind == "stdin" and message.stdin.endswith(b"q"):
                yield pb.SessionOutput(end=pb.SessionEnd(exit_code=5))
                return
            if kind == "stdin" and message.stdin.endswith(b"x"):
                context.abort(grpc.StatusCode.UNAVAILABLE, "the way is broken")
            told = str(getattr(message, kind)).replace("\n", " ").strip()
            yield pb.SessionOutput(stdout=f"<{kind} {told}>".encode())
            if kind == "end":
                yield pb.SessionOutput(stderr=b"complaint")
                yield pb.SessionOutput(end=pb.SessionEnd(exit_code=3))
                return

    Attach = Exec


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Echo]:
    servicer = Echo()
    server = grpc.server(ThreadPoolExecutor(4))
    containers_pb2_grpc.add_ContainersServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{tmp_path}/d.sock")
    server.start()
    monkeypatch.setenv("SWARMCTL_HOST", f"unix://{tmp_path}/d.sock")
    monkeypatch.setenv("SWARMCTL_CONFIG", str(tmp_path / "config"))
    yield servicer
    server.stop(None).wait()


@pytest.fixture
def screen(echo: Echo) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def begin(*words: str) -> Screen:
            made = Screen(*words)
            stack.callback(made.close)
            made.until(b"hello ")
            return made

        yield begin


def test_a_session_is_raw_and_its_exit_code_is_the_programs(echo: Echo, screen: Any) -> None:
    shown = screen("exec", "-it", "-e", "A=b", "-w", "/w", "-u", "web", "box", "sh", "-c", "x")
    (first,) = echo.first
    assert (first.ref, list(first.command.args), list(first.command.env)) == (
        "box",
        ["sh", "-c", "x"],
        ["A=b"],
    )
    assert (first.command.user, first.command.cwd, first.command.tty) == ("web", "/w", True)
    assert (first.command.size.rows, first.command.size.columns) == (33, 101)
    assert shown.is_raw()
    shown.type(b"\x03")
    shown.until(rb"<stdin b'\x03'>")
    shown.resize(44, 122)
    shown.until(b"<size rows: 44 columns: 122>")
    shown.type(b"q")
    assert shown.ended() == 5


@pytest.mark.parametrize("words", [("exec", "-it", "box", "sh"), ("attach", "tty")])
def test_keys_leave_the_session(screen: Any, words: tuple[str, ...]) -> None:
    shown = screen(*words)
    shown.type(b"a\x10")
    shown.until(b"<stdin b'a'>")
    shown.type(b"\x11")
    shown.until(b"read escape sequence")
    assert shown.ended() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_the_terminal_as_it_was(screen: Any, number: int, code: int) -> None:
    shown = screen("exec", "-it", "box", "sh")
    shown.process.send_signal(number)
    assert shown.ended() == code


def test_a_session_that_breaks_leaves_the_terminal_as_it_was(screen: Any) -> None:
    shown = screen("exec", "-it", "box", "sh")
    shown.type(b"x")
    assert shown.ended() == 1
    shown.until(b"the way is broken")


def test_an_attached_container_is_told_how_large_the_terminal_is(screen: Any) -> None:
    shown = screen("attach", "tty")
    shown.until(b"<size rows: 33 columns: 101>")
    shown.type(b"q")
    assert shown.ended() == 5


def test_without_a_terminal_ctrl_c_ends_exec_and_not_the_program(screen: Any) -> None:
    shown = screen("exec", "-i", "box", "sh")
    assert not shown.is_raw()
    shown.process.send_signal(signal.SIGINT)
    assert shown.ended() == 130


def test_without_a_terminal_attach_passes_signals_on(screen: Any) -> None:
    shown = screen("attach", "plain")
    shown.process.send_signal(signal.SIGINT)
    shown.until(b"<signal SIGINT>")
    shown.process.send_signal(signal.SIGTERM)
    shown.until(b"<signal SIGTERM>")
    assert shown.process.poll() is None


def run(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([SWARMCTL, *words], input=stdin, capture_output=True, timeout=PATIENCE, check=False)


def test_a_pipe_is_read_to_its_end(echo: Echo) -> None:
    done = run("exec", "-i", "box", "sh", stdin=b"typed")
    assert (done.returncode, done.stdout) == (3, b"hello <stdin b'typed'><end True>")
    assert done.stderr == b"complaint"


def test_a_terminal_is_refused_where_there_is_none(echo: Echo) -> None:
    for words in (("exec", "-it", "box", "sh"), ("attach", "tty")):
        done = run(*words)
        assert (done.returncode, done.stderr) == (1, b"the input device is not a TTY\n")


def test_keys_that_are_none_are_refused(echo: Echo) -> None:
    done = run("exec", "--detach-keys", "ctrl-1", "box", "sh")
    assert done.returncode == 125
    assert b"Unknown character: 'ctrl-1'" in done.stderr
