"""Whatever bytes arrive at the spawner's socket: an answer or a closed connection, and others are served."""

from __future__ import annotations

import errno
import marshal
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmd.node.runtime import kernel, wire
from swarmd.node.runtime.spawnd import Spawner
from swarmd.node.runtime.spawnd_logs import LogKeeper
from swarmd.node.runtime.spawnd_loop import Loop

OPERATIONS = (
    *("hello", "list", "create", "start", "pidfd", "ack", "forget", "done", "code", "exec", "exec_drop"),
    *("terminal", "input_end", "nothing"),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
# "../x" and the like would be root's own doing: whoever may connect may do anything here anyway.
MESSAGES = st.tuples(st.integers(1, 9), st.sampled_from(OPERATIONS) | VALUES).flatmap(
    lambda head: st.lists(VALUES, max_size=4).map(lambda rest: (*head, *rest))
)


class Bench:
    """A spawner in this process, that is asked step by step."""

    def __init__(self, run_dir: Path) -> None:
        self.path = str(run_dir / "s.sock")
        self.loop = Loop()
        self.spawner = Spawner(str(run_dir), "x", -1, self.loop, LogKeeper(str(run_dir), self.loop))
        self.server = wire.listen(self.path)
        self.loop.serve(self.server, self.spawner.handle)

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(self.path)
        connection.settimeout(60)
        return connection

    def turn(self) -> None:
        self.loop.later(0.0, self.loop.stop)
        self.loop._running = True
        self.loop.run()

    def ask(self, connection: socket.socket, packet: bytes, fds: list[int]) -> tuple[Any, ...] | None:
        """The answer, None if the connection was closed."""
        socket.send_fds(connection, [packet], fds)
        for _ in range(4):
            self.turn()
        connection.setblocking(False)
        try:
            return wire.receive(connection)[0]
        except BlockingIOError:
            return ()
        except (EOFError, OSError):
            return None


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "clone", refused)  # this process is no spawner
        yield made
    made.server.close()


def refused(*_: object) -> tuple[int, int]:
    raise OSError(errno.EPERM, "not here")


def is_served(bench: Bench) -> bool:
    with bench.connect() as connection:
        return bench.ask(connection, wire.encode(7, "code"), []) == (7, "ok", "x")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.binary(max_size=200) | MESSAGES.map(marshal.dumps), st.integers(0, 3))
def test_no_bytes_end_the_spawner_or_cost_it_a_descriptor(bench: Bench, packet: bytes, count: int) -> None:
    held = len(os.listdir("/proc/self/fd"))
    with bench.connect() as connection:
        sent = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
        bench.ask(connection, packet or b"\0", sent)
        for fd in sent:
            os.close(fd)
    bench.turn()
    bench.turn()
    assert len(os.listdir("/proc/self/fd")) <= held
    assert is_served(bench)


@pytest.mark.parametrize("packet", [b"", b"junk", marshal.dumps(5), marshal.dumps((1,))])
def test_what_is_no_message_closes_the_connection(bench: Bench, packet: bytes) -> None:
    with bench.connect() as connection:
        assert bench.ask(connection, packet or b"x" * 9, []) is None


def test_an_operation_nobody_knows_is_answered(bench: Bench) -> None:
    with bench.connect() as connection:
        answer = bench.ask(connection, wire.encode(3, "nothing"), [])
        assert answer is not None
        assert answer[:5] == (3, "error", "nothing", "", errno.EINVAL)
