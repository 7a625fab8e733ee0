"""An encrypted network between two nodes on real kernels: what passes, what is seen, what is refused."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator

import msgspec
import pytest

from swarmd.model.states import Role
from swarmd.node.network.core.papers import Papers
from swarmd.node.network.port import NetworkView
from swarmd.security import ca
from tests.integration.network_bed import ask, eventually, inside, run
from tests.integration.overlay_bed import Overlay, overlay, refusal, udp

pytestmark = pytest.mark.root
SAFE = NetworkView(id="safe", name="safe", subnets=("10.22.0.0/24", "fd22::/64"), encrypted=True)
PLAIN = NetworkView(id="plain", name="plain", subnets=("10.23.0.0/24",))
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Overlay]:
    root, root_key = ca.new_root(time.time())
    # Nobody makes good what a test breaks, unless it is asked to.
    with overlay(2, SAFE, PLAIN, environment={"SWARM_BED_KEEPER": "3600"}) as made:
        for node in made.nodes:
            key = ca.new_key()
            identity = ca.Identity(node.view.id, Role.WORKER, "swarm")
            certificate = ca.sign(
                ca.new_request(key), identity, root_pem=root, root_key_pem=root_key, now=time.time(),
                life=3600,
            )  # fmt: skip
            papers = Papers("swarm", key, certificate, root, str(tmp_path_factory.mktemp(node.view.id)))
            node.call("identify", papers=msgspec.to_builtins(papers))
        made.join(1, "one", {"safe": 11, "plain": 11})
        made.join(2, "two", {"safe": 12, "plain": 12})
        one, two = made.containers
        eventually(lambda: refusal(one, made.address(two, "safe")) == 0, "the nodes have found each other")
        yield made


def tap(swarm: Overlay) -> socket.socket:
    """Everything that goes over the bridge."""

    def tapped() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        sock.setblocking(False)
        return sock

    return inside(swarm.hub, tapped)


@FAMILIES
def test_containers_reach_each_other_and_nobody_between_reads_it(swarm: Overlay, family: int) -> None:
    one, two = swarm.containers
    seen = {}
    for network in ("safe", "plain") if family == 4 else ("safe",):
        with tap(swarm) as sock:
            address = swarm.address(two, network, family)
            assert ask(one.namespace, address, 8000) == ("two", swarm.address(one, network, family))
            assert udp(one, address) == f"two {swarm.address(one, network, family)}"
            packets = b""
            # What was answered has passed: it is all here, and what the nodes go on saying is not waited for.
            with contextlib.suppress(BlockingIOError):
                while chunk := sock.recv(1 << 16):
                    packets += chunk
        seen[network] = b"HTTP/1.0 200 OK" in packets
    assert seen == ({"safe": False, "plain": True} if family == 4 else {"safe": False})


def test_what_comes_in_the_clear_for_an_encrypted_network_is_dropped(swarm: Overlay) -> None:
    one, two = swarm.containers
    address = swarm.address(two, "safe")
    ip = ("ip", "-n", one.node.namespace, "route")
    before = run(*ip, "show", address).split()
    assert before[before.index("dev") + 1] == "sx0"
    try:
        for _ in range(20):
            run(*ip, "replace", f"{address}/32", "via", "10.128.2.0", "dev", "vx0", "onlink")
            refused = refusal(one, address, seconds=5.0)
            if refused or "sx0" not in run(*ip, "show", address).split():
                break  # else the keeper had mended the route before anything went by it
        assert refused != 0
    finally:
        run(*ip, "replace", f"{address}/32", "via", "10.128.2.0", "dev", "sx0", "onlink", "proto", "83")
    assert ask(one.namespace, address, 8000)[0] == "two"


@pytest.mark.parametrize("network", ["safe", "plain"])
def test_a_neighbour_of_the_nodes_cannot_speak_as_a_container(swarm: Overlay, network: str) -> None:
    one, two = swarm.containers
    claimed, address = swarm.address(one, network), swarm.address(two, network)
    run("ip", "-n", swarm.hub, "route", "replace", f"{address}/32", "via", two.node.address)

    def forge() -> None:
        datagram = struct.pack("!4H", 9999, 9999, 14, 0) + b"forged"
        head = struct.pack("!BBHHHBBH", 0x45, 0, 34, 1, 0, 64, socket.IPPROTO_UDP, 0)
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
            sock.sendto(head + socket.inet_aton(claimed) + socket.inet_aton(address) + datagram, (address, 0))

    def bound(to: str) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((to, 9999))
        sock.settimeout(30)
        return sock

    with (
        inside(two.namespace, lambda: bound(address)) as ear,
        inside(one.namespace, lambda: bound("")) as own,
    ):
        inside(swarm.hub, forge)
        own.sendto(b"genuine", (address, 9999))
        assert ear.recv(100) == b"genuine"


def test_a_device_that_somebody_deleted_is_there_again_and_carries(swarm: Overlay) -> None:
    one, two = swarm.containers
    run("ip", "-n", one.node.namespace, "link", "delete", "sx0")
    one.node.call("mend")
    eventually(lambda: refusal(one, swarm.address(two, "safe")) == 0, "frames are carried again")
