"""Calls on a daemon's unix socket: whatever gRPC's own server says, is understood."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded

from swarmd.cli.client import translate
from swarmd.cli.errors import DaemonError
from swarmd.model.errors import OLDER
from swarmd.rpc import wakeup
from swarmd.rpc.unix_calls import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    UNAVAILABLE,
    UNKNOWN,
    CallFailed,
    Host,
    Service,
)
from swarmd.rpc.unix_wire import Wire
from swarmd.rpc.v1 import images_pb2, images_pb2_grpc, networks_pb2, node_pb2, node_pb2_grpc

PATIENCE = 60
MANY_WINDOWS = 9 << 20
Load, Save = node_pb2.LoadImagesRequest, images_pb2.SaveImagesRequest
Tag, Tagged = node_pb2.TagImageRequest, node_pb2.TagImageResponse


class Daemon(images_pb2_grpc.ImagesServicer, node_pb2_grpc.NodeApiServicer):
    """``got``: bytes of the last load; ``cancelled``: set when a caller of ``SaveImages`` went away."""

    def __init__(self) -> None:
        self.got = 0
        self.cancelled = threading.Event()

    def LoadImages(self, requests: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self.got = 0
        for request in requests:
            self.got += len(request.data)
            if request.data == b"stop":
                context.set_trailing_metadata((("swarmd-kind", "refused"),))
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "größer als 1 %")
        return node_pb2.LoadImagesResponse()

    def SaveImages(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        if request.refs == ["endless"]:
            context.add_callback(self.cancelled.set)
            yield images_pb2.SaveImagesResponse(data=b"x")
            self.cancelled.wait(PATIENCE)
            return
        for _ in range(3):
            yield images_pb2.SaveImagesResponse(data=b"y" * (MANY_WINDOWS // 3))

    def TagImage(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return Tagged()


class Rig:
    def __init__(self, path: Path) -> None:
        self.daemon = Daemon()
        options = [("grpc.max_receive_message_length", 64 << 20)]
        self.server = grpc.server(ThreadPoolExecutor(8), options=options)
        images_pb2_grpc.add_ImagesServicer_to_server(self.daemon, self.server)
        node_pb2_grpc.add_NodeApiServicer_to_server(self.daemon, self.server)
        self.server.add_insecure_port(f"unix:{path}")
        self.server.start()
        self.path = str(path)
        self.host = Host(self.path)

    def call(self, name: str, request: Any, seconds: float | None = PATIENCE) -> Any:
        return service(self.host, "Images" if name == "SaveImages" else "NodeApi").call(
            name, request, seconds
        )


def service(host: Host, name: str) -> Service:
    file = images_pb2.DESCRIPTOR if name == "Images" else node_pb2.DESCRIPTOR
    return Service(host, file.services_by_name[name])


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "d.sock")
    yield made
    made.host.close()
    made.server.stop(None).wait()


def test_a_single_answer_and_another_one_on_the_same_connection(rig: Rig) -> None:
    for _ in range(3):
        assert rig.call("TagImage", Tag()).single() == Tagged()


def test_a_message_of_many_windows_goes_and_comes(rig: Rig) -> None:
    pieces = iter([Load(data=b"z" * MANY_WINDOWS), Load(data=b"z")])
    assert rig.call("LoadImages", pieces).single() is not None
    assert rig.daemon.got == MANY_WINDOWS + 1
    assert sum(len(answer.data) for answer in rig.call("SaveImages", Save())) == MANY_WINDOWS


def test_a_large_request_needs_no_second_thread(rig: Rig) -> None:
    request = Tag(source="s" * MANY_WINDOWS)
    assert rig.call("TagImage", request).single() == Tagged()


def test_an_error_has_its_code_its_words_and_its_kind(rig: Rig) -> None:
    with pytest.raises(CallFailed) as failed:
        list(rig.call("LoadImages", iter([Load(data=b"stop"), Load(data=b"more")])))
    assert failed.value.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert failed.value.details == "größer als 1 %"
    assert failed.value.trailing["swarmd-kind"] == "refused"
    assert rig.call("TagImage", Tag()).single() is not None


def test_a_command_that_an_older_daemon_does_not_know_is_answered_in_words(rig: Rig) -> None:
    networks = Service(rig.host, networks_pb2.DESCRIPTOR.services_by_name["Networks"])
    with pytest.raises(CallFailed) as failed:
        networks.call("ListNetworks", networks_pb2.ListNetworksRequest(), PATIENCE).single()
    said = translate(failed.value, "unix:///run/swarmd.sock")
    assert isinstance(said, DaemonError)
    assert (said.kind, said.message) == ("refused", OLDER)


def test_a_deadline_ends_a_call(rig: Rig) -> None:
    answers = rig.call("SaveImages", Save(refs=["endless"]), 0.2)
    with pytest.raises(CallFailed) as failed:
        list(answers)
    assert failed.value.code == DEADLINE_EXCEEDED
    assert rig.daemon.cancelled.wait(PATIENCE)


def test_a_call_that_is_left_is_cancelled_there_too(rig: Rig) -> None:
    answers = rig.call("SaveImages", Save(refs=["endless"]), None)
    assert next(answers).data == b"x"
    answers.cancel()
    assert rig.daemon.cancelled.wait(PATIENCE)


def test_another_thread_may_cancel_what_the_first_waits_for(rig: Rig) -> None:
    answers = rig.call("SaveImages", Save(refs=["endless"]), None)
    next(answers)
    threading.Thread(target=answers.cancel).start()
    with pytest.raises(CallFailed) as failed:
        next(answers)
    assert failed.value.code == CANCELLED


def test_what_cannot_be_read_here_ends_the_call(rig: Rig) -> None:
    def pieces() -> Iterator[Any]:
        yield Load(data=b"a")
        raise ValueError("no more of it")

    with pytest.raises(CallFailed) as failed:
        list(rig.call("LoadImages", pieces()))
    assert (failed.value.code, "no more of it" in failed.value.details) == (UNKNOWN, True)


def test_nobody_there_is_told_from_one_who_went_away(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(CallFailed) as failed:
        service(Host(str(tmp_path / "none.sock")), "NodeApi").call("TagImage", Tag(), 1)
    assert isinstance(failed.value.refused, FileNotFoundError)
    assert rig.call("TagImage", Tag()).single() == Tagged()
    rig.server.stop(None).wait()
    with pytest.raises(CallFailed) as left:
        rig.call("TagImage", Tag()).single()
    assert left.value.code == UNAVAILABLE


class Leaving(threading.Thread):
    """A daemon that answers one call on each connection and says in the same breath that it goes."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._held: list[socket.socket] = []

    def run(self) -> None:
        for _ in range(2):
            connection, _ = self._listening.accept()
            self._held.append(connection)
            http = H2Connection(H2Configuration(client_side=False))
            http.initiate_connection()
            while not any(
                isinstance(event, StreamEnded) for event in http.receive_data(connection.recv(4096))
            ):
                connection.sendall(http.data_to_send())
            http.send_headers(1, [(":status", "200"), ("content-type", "application/grpc")])
            http.send_data(1, bytes(5))
            http.send_headers(1, [("grpc-status", "0")], end_stream=True)
            http.close_connection()
            connection.sendall(http.data_to_send())

    def close(self) -> None:
        for one in (*self._held, self._listening):
            one.close()


def test_a_connection_whose_daemon_said_goodbye_is_not_used_again(tmp_path: Path) -> None:
    leaving = Leaving(tmp_path / "d.sock")
    leaving.start()
    host = Host(str(tmp_path / "d.sock"))
    for _ in range(2):
        assert service(host, "NodeApi").call("TagImage", Tag(), PATIENCE).single() == Tagged()
    host.close()
    leaving.join(PATIENCE)
    leaving.close()


def takes_calls(path: str) -> bool:
    """Of a new connection."""
    try:
        service(Host(path), "NodeApi").call("TagImage", Tag(), PATIENCE).single()
    except CallFailed:
        return False
    return True


def test_a_daemon_that_stops_still_answers_what_it_was_asked_before(rig: Rig) -> None:
    call = rig.call("SaveImages", Save(refs=["endless"]))
    assert next(call).data == b"x"
    stopped = rig.server.stop(PATIENCE)
    while takes_calls(rig.path):
        pass
    rig.daemon.cancelled.set()
    assert list(call) == []
    stopped.wait(PATIENCE)
    with pytest.raises(CallFailed) as left:
        rig.call("TagImage", Tag()).single()
    assert left.value.code == UNAVAILABLE


class Signalled(Exception):
    """What the handler raises in the end."""


def test_a_signal_that_another_thread_got_is_handled_while_the_answer_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled = threading.Semaphore(0)
    times = 0

    def handle(number: int, frame: object) -> None:
        nonlocal times
        times += 1
        handled.release()
        if times == 5:
            raise Signalled

    def interrupt() -> None:
        for _ in range(5):
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
            if not handled.acquire(timeout=PATIENCE):
                break
        silent.shutdown(socket.SHUT_RDWR)  # so that nobody waits for ever

    path = str(tmp_path / "silent.sock")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen()
        before = signal.signal(signal.SIGUSR1, handle)
        stack.callback(signal.signal, signal.SIGUSR1, before)
        monkeypatch.setattr(wakeup, "_told", [])
        wakeup.begin()
        stack.callback(os.close, wakeup._told[0])
        stack.callback(lambda: os.close(signal.set_wakeup_fd(-1)))
        wire = Wire(path, None)
        stack.callback(wire.close)
        silent = stack.enter_context(listener.accept()[0])
        thread = threading.Thread(target=interrupt)
        thread.start()
        stack.callback(thread.join)
        with pytest.raises(Signalled):
            wire.read()


def test_a_wait_with_a_limit_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monkeypatch.setattr(wakeup, "_told", [theirs.fileno()])
        with pytest.raises(TimeoutError):
            wakeup.wait(ours.fileno(), 0.01)
