"""Connection tracking at its limits: a table that is full, connections that are silent for long.

How many flows a kernel tracks (``nf_conntrack_max``) is one number for all namespaces, and only the first one
may write it; but each counts its own.  So one node's table is filled instead of made smaller.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from swarmd.control.core.doctor import findings
from swarmd.node.network.settings import AT_LEAST
from swarmd.rpc.v1 import netdiag_pb2 as pb
from tests.integration.conntrack_rig import forget, full, kept_for, number
from tests.integration.network_bed import Bed, Node, ask, bed, inside

pytestmark = pytest.mark.root
MOST = 1 << 20
MANY = 40
"""Connections that two tasks share by chance: that one of them has none happens once in 2^39."""


@pytest.fixture(scope="module")
def swarm() -> Iterator[Bed]:
    with bed(2, name="c") as made:
        yield made


def connect(swarm: Bed, node: Node, port: int) -> socket.socket:
    return inside(swarm.hub, lambda: socket.create_connection((node.address, port), timeout=30))


def answer(sock: socket.socket) -> str:
    """The container that answers a request on a connection that is open."""
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    data = b""
    while chunk := sock.recv(4096):
        data += chunk
    return data.rpartition(b"\r\n")[2].split()[0].decode()


def said_of(node: Node) -> list[tuple[str, str]]:
    """What the doctor makes of the node's figures."""
    report = pb.ExamineNodeResponse(applied=True, audited=True)
    report.conntrack, report.conntrack_max = number(node, "count"), number(node, "max")
    return [(one.severity, one.kind) for one in findings([pb.ExaminedNode(state="ready", report=report)])]


def gossip_passes(source: Node, target: Node) -> bool:
    """Whether a datagram gets from the gossip port of one node to that of the other."""

    def bound(node: Node) -> socket.socket:
        def make() -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((node.address, 7946))
            sock.settimeout(30)
            return sock

        return inside(node.namespace, make)

    with contextlib.closing(bound(source)) as out, contextlib.closing(bound(target)) as into:
        with contextlib.suppress(PermissionError):  # so the kernel says that its table is full
            out.sendto(b"alive", (target.address, 7946))
        try:
            return into.recv(100) == b"alive"
        except TimeoutError:
            return False


def test_a_full_table_turns_away_new_connections_only_and_only_for_as_long_as_it_is_full(swarm: Bed) -> None:
    first, second = swarm.nodes
    if not 0 < number(first, "max") <= MOST:
        pytest.skip(f"this kernel tracks {number(first, 'max')} flows (0: any number): too many to fill")
    swarm.publish(95, swarm.container(2, "patient"))
    with contextlib.closing(connect(swarm, first, 95)) as held:
        with full(first):
            assert said_of(first) == [("problem", "conntrack")]
            assert answer(held) == "patient"
            with pytest.raises(TimeoutError):
                ask(swarm.hub, first.address, 95, timeout=1)
            assert ask(swarm.hub, second.address, 95)[0] == "patient", "the other node's table is its own"
            assert gossip_passes(first, second)
            assert gossip_passes(second, first)
        assert ask(swarm.hub, first.address, 95)[0] == "patient"
        assert said_of(first) == []


def test_a_connection_that_is_silent_for_longer_than_ipvs_remembers_goes_on(swarm: Bed) -> None:
    (least,) = AT_LEAST.values()
    swarm.publish(96, swarm.container(1, "here"), swarm.container(2, "there"))
    held = [connect(swarm, swarm.nodes[0], 96) for _ in range(MANY)]
    remaining = kept_for(swarm.nodes[0], 96)
    assert len(remaining) == len(held)
    assert min(remaining) > least - 60 > 20 * 60
    answered = set()
    for sock in held:
        with contextlib.closing(sock):
            answered.add(answer(sock))
    assert answered == {"here", "there"}


def test_a_connection_the_kernel_has_forgotten_is_never_answered_by_silence(swarm: Bed) -> None:
    near, far = swarm.container(1, "near"), swarm.container(2, "far")
    swarm.publish(97, near, far)
    kept = [connect(swarm, swarm.nodes[0], 97) for _ in range(MANY)]
    moved = [connect(swarm, swarm.nodes[0], 97) for _ in range(MANY)]
    for node in swarm.nodes:
        forget(node)
    assert kept_for(swarm.nodes[0], 97) == []
    assert {answer(sock) for sock in kept} == {"near", "far"}, "the same bucket leads to the same task"
    for node in swarm.nodes:
        forget(node)
    swarm.publish(97, swarm.container(1, "new"))
    for sock in moved:
        with pytest.raises(ConnectionResetError):
            answer(sock)
    for sock in (*kept, *moved):
        sock.close()
