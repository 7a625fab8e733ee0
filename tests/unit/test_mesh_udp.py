"""Which clients of a published UDP port are remembered."""

from __future__ import annotations

import asyncio

import pytest

from swarmd.node.mesh import udp
from swarmd.node.mesh.core.choice import Peer
from swarmd.node.mesh.udp import Flow, UdpPort
from swarmd.node.network.port import Backend

BACKENDS = (Backend(task_id="t", address="127.0.0.1", port=1, node_id="n"),)


class Sent(asyncio.DatagramTransport):
    """What goes back to the clients."""

    def __init__(self) -> None:
        super().__init__()
        self.to: list[object] = []

    def sendto(self, data: object, addr: object = None) -> None:
        self.to.append(addr)

    def is_closing(self) -> bool:
        return False


class Rig:
    """A port whose flows lead nowhere, at a time that stands still."""

    def __init__(self) -> None:
        self.time = 0.0
        self.opened: list[Peer] = []
        self.flows: dict[Peer, Flow] = {}
        self.port = UdpPort(lambda _: BACKENDS, self._start, lambda: self.time)
        self.port.connection_made(Sent())

    def _start(self, flow: Flow, client: Peer) -> None:
        self.opened.append(client)
        self.flows[client] = flow

    def ask(self, *clients: str) -> None:
        for client in clients:
            self.time += 1
            self.port.datagram_received(b"?", (client, 1))

    def answer(self, client: str) -> None:
        self.time += 1
        self.flows[client, 1].answer(b"!", (client, 1))

    def asks_anew(self, client: str) -> bool:
        before = len(self.opened)
        self.ask(client)
        return len(self.opened) > before


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(udp, "_MOST_CLIENTS", 3)
    return Rig()


def test_of_too_many_clients_the_one_that_has_been_silent_longest_is_forgotten(rig: Rig) -> None:
    rig.ask("a", "b", "c", "a", "d")
    assert not any(rig.asks_anew(client) for client in "acd")
    assert rig.asks_anew("b")


def test_an_answer_counts_as_use(rig: Rig) -> None:
    rig.ask("a", "b", "c")
    rig.answer("a")
    rig.ask("d")
    assert not rig.asks_anew("a")
    assert rig.asks_anew("b")


def test_silent_clients_are_forgotten_and_no_others(rig: Rig) -> None:
    rig.ask("a", "b", "a")
    rig.time += udp.IDLE_SECONDS - 0.5
    rig.port.expire()
    assert not rig.asks_anew("a")
    assert rig.asks_anew("b")


def test_an_answer_that_comes_too_late_changes_nothing(rig: Rig) -> None:
    rig.ask("a", "b", "c", "d")
    rig.answer("a")
    assert rig.asks_anew("a")
