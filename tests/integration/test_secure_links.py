"""Frames of encrypted networks between nodes: who is heard, who is not, what a stranger on the wire sees."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from swarmd.kit.clock import SystemClock
from swarmd.kit.supervise import Nursery
from swarmd.model.states import Role
from swarmd.node.network.core.addresses import overlay_mac
from swarmd.node.network.core.carrying import CarrierPeer, Orders, Said
from swarmd.node.network.core.papers import Papers
from swarmd.node.network.secure.keeper import CarrierKeeper
from swarmd.node.network.secure.tap import DEVICE
from swarmd.security import ca
from tests.integration.network_bed import ROOT, eventually, inside, run

pytestmark = pytest.mark.root
PORT = 4790
_SO_RCVBUFFORCE = 33  # what passes is read afterwards: it has to find room, whatever others may have
SECRET = b"what nobody on the wire may read " * 20


class Authority:
    """A swarm's root, and certificates of it."""

    def __init__(self, cluster: str = "swarm") -> None:
        self.cluster = cluster
        self.root, self._key = ca.new_root(time.time())

    def orders(self, node: Machine, peers: tuple[CarrierPeer, ...], *, life: float = 3600.0) -> Orders:
        key = ca.new_key()
        identity = ca.Identity(node.peer.node_id, Role.WORKER, self.cluster)
        certificate = ca.sign(
            ca.new_request(key),
            identity,
            root_pem=self.root,
            root_key_pem=self._key,
            now=time.time(),
            life=life,
        )
        papers = Papers(self.cluster, key, certificate, self.root, str(node.scratch))
        place = (node.peer.node_id, node.peer.number, node.peer.address, PORT)
        return Orders(*place, papers, peers, {peer.number: (f"10.128.{peer.number}.0",) for peer in peers})


class Machine:
    """A namespace with an address on the bridge, and a carrier in it."""

    def __init__(self, hub: str, prefix: str, number: int, scratch: Path) -> None:
        self.namespace, self.scratch = f"{prefix}c{number}", scratch
        self.peer = CarrierPeer(f"node{number}", number, f"172.30.0.{number}")
        self.inner = f"10.128.{number}.0"
        wire = f"{prefix}w{number}"
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        run("ip", "-n", hub, "link", "add", f"p{number}", "type", "veth", "peer", wire)
        run("ip", "-n", hub, "link", "set", wire, "netns", self.namespace, "name", "eth0")
        run("ip", "-n", hub, "link", "set", f"p{number}", "master", "hub0", "up")
        run("ip", "-n", self.namespace, "address", "add", f"{self.peer.address}/24", "dev", "eth0")
        run("ip", "-n", self.namespace, "link", "set", "eth0", "up")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, sys.executable, "-m",
             "swarmd.node.network.secure.carrier"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        device = ("ip", "-n", self.namespace, "link", "show", DEVICE)
        eventually(lambda: not subprocess.run(device, capture_output=True, check=False).returncode, "device")
        mac = overlay_mac(self.peer.number).hex(":")
        run("ip", "-n", self.namespace, "link", "set", DEVICE, "address", mac, "mtu", "1450", "up")
        run("ip", "-n", self.namespace, "address", "replace", f"{self.inner}/32", "dev", DEVICE)

    def order(self, orders: Orders) -> Said:
        """What the carrier says after it."""
        assert self.process
        assert self.process.stdin
        self.process.stdin.write(msgspec.json.encode(orders) + b"\n")
        self.process.stdin.flush()
        return self.said()

    def said(self) -> Said:
        assert self.process
        assert self.process.stdout
        return msgspec.json.decode(self.process.stdout.readline(), type=Said)

    def heard(self) -> bytes:
        """What the carrier has said meanwhile."""
        assert self.process
        assert self.process.stdout
        os.set_blocking(self.process.stdout.fileno(), False)
        found = self.process.stdout.read() or b""
        os.set_blocking(self.process.stdout.fileno(), True)
        return found

    def until_joined(self, *names: str) -> None:
        while (said := self.said()).joined != names:
            assert not said.problem

    def reach(self, other: Machine) -> None:
        """The entries that lead to another node's address inside."""
        mac = overlay_mac(other.peer.number).hex(":")
        ip = ("ip", "-n", self.namespace)
        run(*ip, "neigh", "replace", other.inner, "lladdr", mac, "dev", DEVICE, "nud", "permanent")
        run(*ip, "route", "replace", f"{other.inner}/32", "dev", DEVICE, "src", self.inner)

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


class Net:
    """Machines on one bridge."""

    def __init__(self, scratch: Path) -> None:
        self.prefix, self.scratch = f"sl{os.getpid()}", scratch
        self.hub = f"{self.prefix}hub"
        self.machines: list[Machine] = []
        run("ip", "netns", "add", self.hub)
        run("ip", "-n", self.hub, "link", "add", "hub0", "type", "bridge")
        run("ip", "-n", self.hub, "link", "set", "hub0", "up")

    def machine(self) -> Machine:
        made = Machine(self.hub, self.prefix, len(self.machines) + 1, self.scratch)
        self.machines.append(made)
        made.start()
        return made

    def pair(self, authority: Authority) -> tuple[Machine, Machine]:
        """Two machines with a stream between them."""
        one, two = self.machine(), self.machine()
        one.reach(two)
        two.reach(one)
        two.order(authority.orders(two, (one.peer,)))
        one.order(authority.orders(one, (two.peer,)))
        one.until_joined("node2")
        two.until_joined("node1")
        return one, two

    def close(self) -> None:
        for machine in self.machines:
            machine.end()
        for name in (*(machine.namespace for machine in self.machines), self.hub):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    made = Net(tmp_path)
    try:
        yield made
    finally:
        made.close()


def listener(machine: Machine) -> socket.socket:
    def made() -> socket.socket:
        sock = socket.create_server((machine.inner, 9000))
        sock.settimeout(30)
        return sock

    return inside(machine.namespace, made)


def passes(one: Machine, two: Machine, data: bytes = b"hello", limit: float = 30.0) -> bool:
    """Whether bytes arrive over a new connection."""
    with listener(two) as server:

        def call() -> socket.socket:
            return socket.create_connection((two.inner, 9000), timeout=limit)

        try:
            client = inside(one.namespace, call)
        except TimeoutError:
            return False
        with client, server.accept()[0] as answer:
            sending = threading.Thread(target=client.sendall, args=(data,))
            sending.start()
            received = b""
            while len(received) < len(data):
                received += answer.recv(1 << 16)
            sending.join()
            return received == data


def test_what_passes_between_two_nodes_arrives_whole_and_nobody_else_can_read_it(net: Net) -> None:
    one, two = net.pair(Authority())

    def tapped() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
        sock.settimeout(0.2)
        return sock

    with inside(net.hub, tapped) as wire:
        assert passes(one, two, SECRET * 2000)
        seen = b""
        with contextlib.suppress(TimeoutError):
            while chunk := wire.recv(1 << 16):
                seen += chunk
    assert len(seen) > len(SECRET) * 1000
    assert b"nobody on the wire" not in seen


def test_a_node_of_another_swarm_is_not_heard(net: Net) -> None:
    ours = Authority()
    one, two = net.pair(ours)
    third = net.machine()
    one.order(ours.orders(one, (two.peer, third.peer)))
    third.order(Authority().orders(third, (one.peer, two.peer)))
    one.reach(third)
    third.reach(one)
    assert not passes(one, third, limit=1.0)
    assert passes(one, two)


def test_a_certificate_that_has_expired_opens_nothing(net: Net) -> None:
    ours = Authority()
    one, two = net.machine(), net.machine()
    one.reach(two)
    two.reach(one)
    two.order(ours.orders(two, (one.peer,)))
    one.order(ours.orders(one, (two.peer,), life=-60.0))
    assert not passes(one, two, limit=1.0)
    assert len(one.heard().splitlines()) < 40  # it does not call without pause
    one.order(ours.orders(one, (two.peer,)))
    two.until_joined("node1")
    assert passes(one, two)


def test_papers_that_could_not_be_read_are_read_again(net: Net) -> None:
    ours = Authority()
    one, two = net.machine(), net.machine()
    two.order(ours.orders(two, (one.peer,)))
    one.scratch = one.scratch / "taken"
    one.scratch.touch()
    assert "nothing can be carried" in one.order(ours.orders(one, (two.peer,))).problem
    one.scratch.unlink()
    while one.said().joined != ("node2",):
        pass


def test_a_node_sends_in_its_own_name_only(net: Net) -> None:
    one, two = net.pair(Authority())
    foreign = overlay_mac(3).hex(":")
    run("ip", "-n", one.namespace, "link", "set", DEVICE, "address", foreign)
    assert not passes(one, two, limit=1.0)
    run("ip", "-n", one.namespace, "link", "set", DEVICE, "address", overlay_mac(1).hex(":"))
    one.reach(two)  # another address of a device makes it forget its neighbours
    assert passes(one, two)


def test_a_node_cannot_speak_as_a_container_of_another(net: Net) -> None:
    one, two = net.pair(Authority())
    ip = ("ip", "-n", one.namespace)
    run(*ip, "address", "add", "10.128.3.0/32", "dev", DEVICE)
    run(*ip, "route", "replace", f"{two.inner}/32", "dev", DEVICE, "src", "10.128.3.0")
    run("ip", "-n", two.namespace, "neigh", "replace", "10.128.3.0", "lladdr", overlay_mac(1).hex(":"),
        "dev", DEVICE, "nud", "permanent")  # fmt: skip
    run("ip", "-n", two.namespace, "route", "replace", "10.128.3.0/32", "dev", DEVICE)
    assert not passes(one, two, limit=1.0)
    one.reach(two)
    assert passes(one, two)


def test_a_connection_inside_outlives_a_new_certificate_and_a_carrier_that_was_killed(net: Net) -> None:
    ours = Authority()
    one, two = net.pair(ours)
    with listener(two) as server:
        client = inside(one.namespace, lambda: socket.create_connection((two.inner, 9000), timeout=30))
        with client, server.accept()[0] as answer:
            answer.settimeout(60)
            one.order(ours.orders(one, (two.peer,)))
            client.sendall(b"renewed")
            assert answer.recv(100) == b"renewed"
            two.end()
            client.sendall(b"killed")
            two.start()
            two.order(ours.orders(two, (one.peer,)))
            assert answer.recv(100) == b"killed"


def test_a_node_that_left_is_cut_off_at_once(net: Net) -> None:
    ours = Authority()
    one, two = net.pair(ours)
    assert passes(one, two)
    two.order(ours.orders(two, ()))
    assert not passes(one, two, limit=1.0)


def test_strangers_are_turned_away_at_the_door_and_silent_neighbours_keep_nobody_waiting(net: Net) -> None:
    one, two = net.pair(Authority())

    def called(source: str) -> socket.socket:
        return socket.create_connection((two.peer.address, PORT), 30, source_address=(source, 0))

    run("ip", "-n", one.namespace, "address", "add", "172.30.0.77/24", "dev", "eth0")
    with inside(one.namespace, lambda: called("172.30.0.77")) as stranger:
        assert stranger.recv(1) == b""
    neighbours = [inside(one.namespace, lambda: called(one.peer.address)) for _ in range(100)]
    assert passes(one, two)
    for neighbour in neighbours:
        neighbour.close()


async def test_a_carrier_that_was_killed_in_the_middle_of_a_word_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, lives = tmp_path / "carrier", tmp_path / "lives"
    program.write_text(f"#!/bin/sh\necho life >> {lives}\nprintf '{{\"joined\":['\n")
    program.chmod(0o700)
    monkeypatch.setattr("swarmd.node.network.secure.keeper.COMMAND", (str(program),))
    failures: list[BaseException] = []
    nursery = Nursery(lambda _, error: failures.append(error))
    keeper = CarrierKeeper(SystemClock(), nursery)
    keeper.order(Orders("node1", 1, "127.0.0.1", PORT, Papers("swarm", b"", b"", b"", str(tmp_path))))
    async with asyncio.timeout(60):
        while not lives.exists() or len(lives.read_text().split()) < 2:
            assert not failures
            await asyncio.sleep(0.02)
    await keeper.stop()
    await nursery.close()
