"""The routing mesh on real kernels: three nodes, containers, and clients everywhere."""

from __future__ import annotations

import errno
import itertools
import socket
import struct
import threading
from collections.abc import Iterator

import msgspec
import pytest

from swarmd.model.errors import SwarmError
from tests.integration.network_bed import Bed, Container, Node, ask, ask_from, bed, eventually, inside, run

pytestmark = pytest.mark.root
CLIENT = "172.30.0.100"


@pytest.fixture(scope="module")
def swarm() -> Iterator[Bed]:
    with bed(3) as made:
        yield made


def names(found: set[tuple[str, str]]) -> set[str]:
    return {name for name, _ in found}


def test_this_machine_has_everything_the_mesh_wants(swarm: Bed) -> None:
    for node in swarm.nodes:
        names = ("nft", "vxlan", "keep_source", "conntrack", "ipv6", "sctp")
        assert node.can == {**dict.fromkeys(names, True), "missing": []}


def test_every_node_answers_for_a_container_on_another_and_the_client_keeps_its_address(swarm: Bed) -> None:
    swarm.publish(80, swarm.container(2, "far"))
    for node in swarm.nodes:
        assert ask(swarm.hub, node.address, 80) == ("far", CLIENT)


def test_repeated_requests_reach_every_backend(swarm: Bed) -> None:
    made = [swarm.container(number, f"spread{number}") for number in (1, 2, 3)]
    swarm.publish(81, *made)
    found = {ask(swarm.hub, swarm.nodes[0].address, 81) for _ in range(60)}
    assert found == {("spread1", CLIENT), ("spread2", CLIENT), ("spread3", CLIENT)}


@pytest.mark.parametrize("end", ["server", "client", "reset"])
def test_a_source_port_is_used_again_at_once_through_any_node(swarm: Bed, end: str) -> None:
    made = [swarm.container(number, f"{end}{number}") for number in (1, 2, 3)]
    source = {"server": 20000, "client": 21000, "reset": 22000}[end]
    for place, container in enumerate(made):
        swarm.publish(60 + place, container)
        for first, second in itertools.product(swarm.nodes, repeat=2):
            if end == "client" and first is second:
                continue  # the client's own kernel is still in TIME_WAIT with it
            source += 1
            for turn, node in enumerate((first, second)):
                to = (node.address, 60 + place)
                closing = "server" if turn else end
                assert ask_from(swarm.hub, (CLIENT, source), to, closing)[:2] == (container.name, CLIENT)


def test_one_source_port_holds_connections_to_one_container_through_every_node(swarm: Bed) -> None:
    only = swarm.container(2, "only")
    swarm.publish(63, only)
    held = []
    for node in (*swarm.nodes, *reversed(swarm.nodes)):
        source = 23000 + len(held) // len(swarm.nodes)
        name, client, sock = ask_from(swarm.hub, (CLIENT, source), (node.address, 63), "client", hold=True)
        held.append(sock)
        assert (name, client) == ("only", CLIENT)
    for sock in held:
        sock.close()


def test_a_udp_source_port_is_used_through_every_node_and_its_flows_are_forgotten(swarm: Bed) -> None:
    only = swarm.container(2, "udp-only")
    swarm.publish(64, only, protocol="udp")
    for node in swarm.nodes:
        assert udp(swarm.hub, node.address, 64, 5557) == f"udp-only {CLIENT}"
    home = only.node.namespace
    listing = ("ip", "netns", "exec", home, "conntrack", "-L", "-p", "udp", "--reply-src", only.address)
    assert len(run(*listing).splitlines()) == len(swarm.nodes)
    swarm.publish(64, protocol="udp")
    assert run(*listing) == ""


def test_a_large_answer_from_another_node_arrives_whole(swarm: Bed) -> None:
    swarm.publish(79, swarm.container(2, "big"))

    def download() -> int:
        with socket.create_connection((swarm.nodes[0].address, 79), timeout=30) as sock:
            sock.sendall(b"GET /big HTTP/1.0\r\n\r\n")
            received = 0
            while chunk := sock.recv(1 << 16):
                received += len(chunk)
            return received

    assert inside(swarm.hub, download) == 3_000_000 + len("HTTP/1.0 200 OK\r\n\r\n")


def test_a_container_reaches_the_outside_under_its_nodes_address(swarm: Bed) -> None:
    made = swarm.container(1, "outbound")
    server = inside(swarm.hub, lambda: socket.create_server((CLIENT, 9000)))
    server.settimeout(30)
    run("ip", "-n", swarm.nodes[0].namespace, "route", "replace", "default", "via", CLIENT)
    client = inside(made.namespace, lambda: socket.create_connection((CLIENT, 9000), timeout=30))
    accepted, peer = server.accept()
    for sock in (client, accepted, server):
        sock.close()
    assert peer[0] == swarm.nodes[0].address


@pytest.mark.parametrize("target", [1, 2])
def test_a_node_reaches_published_ports_at_its_own_and_at_other_addresses(swarm: Bed, target: int) -> None:
    made = [swarm.container(number, f"self{target}{number}") for number in (1, 2)]
    swarm.publish(82, *made)
    from_node = swarm.nodes[0].namespace
    address = swarm.nodes[target - 1].address
    found = {ask(from_node, address, 82)[0] for _ in range(30)}
    assert found == {container.name for container in made}


def test_a_container_reaches_published_ports_of_any_node_and_of_itself(swarm: Bed) -> None:
    made = [swarm.container(number, f"inner{number}") for number in (1, 2)]
    swarm.publish(83, *made)
    for node in swarm.nodes:
        found = {ask(made[0].namespace, node.address, 83)[0] for _ in range(30)}
        assert found == {"inner1", "inner2"}


def test_localhost_is_served_by_the_proxy(swarm: Bed) -> None:
    swarm.publish(84, swarm.container(2, "local-far"))
    for node in swarm.nodes:
        assert ask(node.namespace, "127.0.0.1", 84)[0] == "local-far"


def refused(namespace: str, address: str, port: int, *, seconds: float = 30.0) -> bool:
    def attempt() -> bool:
        with socket.socket() as sock:
            sock.settimeout(seconds)
            return sock.connect_ex((address, port)) == errno.ECONNREFUSED

    return inside(namespace, attempt)


def test_a_port_without_backends_is_refused_at_once(swarm: Bed) -> None:
    swarm.publish(85)
    one = swarm.nodes[0]
    for namespace, address in (
        (swarm.hub, one.address), (one.namespace, one.address), (one.namespace, "127.0.0.1"),
    ):  # fmt: skip
        assert refused(namespace, address, 85, seconds=0.9), "before the kernel asks a second time"
    back = swarm.container(3, "back")
    swarm.publish(85, back)
    assert ask(swarm.hub, swarm.nodes[0].address, 85)[0] == "back"
    assert ask(swarm.nodes[0].namespace, "127.0.0.1", 85)[0] == "back"
    swarm.publish(85)
    assert refused(swarm.nodes[0].namespace, "127.0.0.1", 85)
    assert refused(swarm.hub, swarm.nodes[0].address, 85)


def test_a_taken_port_is_reported_left_alone_and_taken_over_when_it_is_free(swarm: Bed) -> None:
    node = swarm.nodes[0]
    thief = inside(node.namespace, lambda: socket.create_server(("", 86)))
    swarm.publish(86, swarm.container(2, "patient"))
    assert "port 86/tcp is taken on this node by another process" in node.call("problems")
    sock = inside(swarm.hub, lambda: socket.create_connection((node.address, 86), timeout=30))
    thief.settimeout(30)
    thief.accept()[0].close()
    sock.close()
    assert ask(swarm.hub, swarm.nodes[1].address, 86)[0] == "patient"
    thief.close()
    eventually(lambda: not node.call("problems"), "the port is free again")
    assert ask(swarm.hub, node.address, 86)[0] == "patient"


def test_nobody_can_take_a_published_port_even_without_backends(swarm: Bed) -> None:
    swarm.publish(87)
    with pytest.raises(OSError, match="in use"):
        inside(swarm.nodes[0].namespace, lambda: socket.create_server(("", 87), reuse_port=False))


@pytest.mark.parametrize("other", [1, 2], ids=["same node", "other node"])
def test_containers_reach_each_other_by_published_port_but_not_by_address(swarm: Bed, other: int) -> None:
    one, two = swarm.container(1, f"caller{other}"), swarm.container(other, f"called{other}")
    swarm.publish(95, two)
    with pytest.raises(OSError, match="No route to host"):
        ask(one.namespace, two.address, 8000)
    assert ask(one.namespace, swarm.nodes[0].address, 95) == (two.name, one.address)


def test_a_container_cannot_speak_with_a_foreign_source_address(swarm: Bed) -> None:
    liar, victim = swarm.container(1, "liar"), swarm.container(1, "victim")
    run("nsenter", f"--net={liar.namespace}", "ip", "address", "add", f"{victim.address}/32", "dev", "eth0")

    def lie() -> None:
        address = (swarm.nodes[0].address, 95)
        socket.create_connection(address, timeout=1, source_address=(victim.address, 0)).close()

    with pytest.raises(TimeoutError):
        inside(liar.namespace, lie)


def test_what_only_looks_like_the_overlay_reaches_no_container(swarm: Bed) -> None:
    target = swarm.container(2, "quiet")
    swarm.publish(8090, target, protocol="udp")
    (near, node), port = (one.address for one in swarm.nodes[:2]), 4789
    run("ip", "-n", swarm.hub, "route", "replace", f"{target.address}/32", "via", node)

    def forge() -> None:
        datagram = struct.pack("!4H", port, port, 14, 0) + b"forged"
        head = struct.pack("!BBHHHBBH", 0x45, 0, 34, 1, 0, 64, socket.IPPROTO_UDP, 0)
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
            to = socket.inet_aton(target.address)
            sock.sendto(head + socket.inet_aton(near) + to + datagram, (target.address, 0))

    def listen() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("", port))
        sock.setblocking(False)
        return sock

    with inside(target.namespace, listen) as ear:
        for _ in range(20):
            inside(swarm.hub, forge)
        assert udp(swarm.hub, node, 8090, 30_100) == f"quiet {CLIENT}"  # it went by the same way behind them
        with pytest.raises(BlockingIOError):
            ear.recv(100)


def udp(namespace: str, address: str, port: int, source: int, *, connected: bool = False) -> str:
    def request() -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("", source))
            sock.settimeout(30)
            if connected:  # only then the kernel tells of refusals
                sock.connect((address, port))
                sock.send(b"?")
            else:
                sock.sendto(b"?", (address, port))
            return sock.recv(100).decode()

    return inside(namespace, request)


def test_a_udp_client_is_moved_when_its_backend_leaves(swarm: Bed) -> None:
    old, new = swarm.container(2, "udp-old"), swarm.container(3, "udp-new")
    swarm.publish(88, old, protocol="udp")
    front = swarm.nodes[0]
    assert udp(swarm.hub, front.address, 88, 5555) == f"udp-old {CLIENT}"
    assert udp(front.namespace, "127.0.0.1", 88, 5556).startswith("udp-old ")
    swarm.publish(88, new, protocol="udp")
    assert udp(swarm.hub, front.address, 88, 5555) == f"udp-new {CLIENT}"
    assert udp(front.namespace, "127.0.0.1", 88, 5556).startswith("udp-new ")


def udp_flows(node: Node) -> set[str]:
    """The tracked UDP flows, with the kernel's number for each, but for what changes with time."""
    listing = run("ip", "netns", "exec", node.namespace, "conntrack", "-L", "-p", "udp", "-o", "id")
    lines = (line.split()[3:] for line in listing.splitlines() if "dport=97" in line)
    return {" ".join(word for word in words if not word.startswith("use=")) for words in lines}


def test_a_udp_port_without_backends_is_refused_and_leaves_nothing_behind(swarm: Bed) -> None:
    swarm.publish(97, protocol="udp")
    with pytest.raises(ConnectionRefusedError):
        udp(swarm.hub, swarm.nodes[0].address, 97, 5560, connected=True)
    assert udp_flows(swarm.nodes[0]) == set()


def test_udp_clients_of_what_left_while_no_daemon_ran_are_moved_and_the_others_are_left_alone(
    swarm: Bed,
) -> None:
    stays, leaves = swarm.container(2, "udp-stays"), swarm.container(3, "udp-leaves")
    swarm.publish(97, stays, leaves, protocol="udp")
    node = swarm.nodes[0]
    answers: dict[int, str] = {}
    for source in range(5600, 5632):
        answers[source] = udp(swarm.hub, node.address, 97, source).split()[0]
    assert set(answers.values()) == {"udp-stays", "udp-leaves"}
    before = udp_flows(node)
    attached = node.call("attached")
    node.end()
    node.boot()
    node.call("configure", self_node=msgspec.to_builtins(node.view))
    node.call("restore", attachments=attached)
    swarm.publish(97, stays, protocol="udp")
    after = udp_flows(node)
    assert after == {flow for flow in before if leaves.address not in flow}
    for source in (one for one, name in answers.items() if name == "udp-leaves"):
        assert udp(swarm.hub, node.address, 97, source).startswith("udp-stays ")


class Load:
    """Clients that ask all nodes in turn until told to end, and count what failed."""

    def __init__(self, swarm: Bed, port: int, clients: int = 3) -> None:
        self.done: list[str] = []
        self.failed: list[str] = []
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(swarm, port, number)) for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, swarm: Bed, port: int, turn: int) -> None:
        while not self._end.is_set():
            turn += 1
            try:
                self.done.append(ask(swarm.hub, swarm.nodes[turn % len(swarm.nodes)].address, port)[0])
            except (OSError, ValueError) as error:
                self.failed.append(repr(error))

    def go_on(self, requests: int) -> None:
        """Wait until so many more were answered."""
        goal = len(self.done) + requests
        eventually(lambda: len(self.done) > goal, "more requests")

    def end(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


def test_replacing_every_backend_with_draining_loses_no_request(swarm: Bed) -> None:
    running = [swarm.container(number, f"v1-{number}") for number in (1, 2)]
    swarm.publish(89, *running)
    load = Load(swarm, 89)
    try:
        for old in list(running):
            new = swarm.container(3, old.name.replace("v1", "v2"))
            running = [c for c in running if c is not old] + [new]
            swarm.publish(89, *running)
            eventually(lambda: connections(old) == 0, "its connections end")  # noqa: B023
            old.kill()
            old.node.call("detach", task_id=old.name)
            load.go_on(20)
    finally:
        load.end()
    assert load.failed == []
    assert {"v1-1", "v1-2", "v2-1", "v2-2"} <= set(load.done)


def connections(container: Container) -> int:
    found: int = container.node.call("connections", task_id=container.name)
    return found


def test_the_open_connections_of_a_container_are_counted_on_its_node(swarm: Bed) -> None:
    busy = swarm.container(2, "busy")
    swarm.publish(90, busy)
    assert connections(busy) == 0
    held = [
        inside(namespace, lambda to=address: socket.create_connection((to, 90), timeout=30))  # type: ignore[misc]
        for namespace, address in (
            (swarm.hub, swarm.nodes[0].address),
            (swarm.hub, swarm.nodes[1].address),
            (swarm.nodes[1].namespace, "127.0.0.1"),  # by way of the proxy
        )
    ]
    eventually(lambda: connections(busy) == len(held), "the proxy has called the container")
    swarm.publish(90)
    assert connections(busy) == len(held)
    for sock in held:
        sock.close()
    eventually(lambda: connections(busy) == 0, "nobody waits for the container any more")
    assert busy.node.call("connections", task_id="unknown") == 0


def test_masked_nodes_get_no_new_connections_and_come_back(swarm: Bed) -> None:
    made = [swarm.container(number, f"mask{number}") for number in (2, 3)]
    swarm.publish(91, *made)
    front = swarm.nodes[0]

    def seen() -> set[str]:
        return {ask(swarm.hub, front.address, 91)[0] for _ in range(20)}

    front.call("mask", node_ids=["node2"])
    eventually(lambda: seen() == {"mask3"}, "node 2 is left out")
    front.call("mask", node_ids=[])
    eventually(lambda: seen() == {"mask2", "mask3"}, "node 2 is back")


def test_connections_to_a_dead_node_are_reset(swarm: Bed) -> None:
    swarm.publish(92, swarm.container(2, "doomed"), swarm.container(3, "alive"))

    def hold() -> list[socket.socket]:
        return [socket.create_connection((swarm.nodes[0].address, 92), timeout=30) for _ in range(32)]

    held = inside(swarm.hub, hold)
    swarm.dead = {"node2"}
    swarm.push()
    answers = []
    for sock in held:
        try:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answers.append(sock.recv(1000).rpartition(b"\n")[2].split()[0].decode())
        except ConnectionResetError:
            answers.append("reset")
        sock.close()
    assert set(answers) == {"reset", "alive"}
    assert {ask(swarm.hub, swarm.nodes[0].address, 92)[0] for _ in range(20)} == {"alive"}
    swarm.dead = set()
    swarm.push()


def test_what_a_foreign_flush_took_away_is_built_again(swarm: Bed) -> None:
    swarm.publish(93, swarm.container(2, "steady"))
    front = swarm.nodes[0]
    front.nft("flush", "ruleset")
    assert ask(swarm.hub, front.address, 93)[0] == "steady"  # the proxy serves meanwhile
    eventually(lambda: "table ip swarmd" in front.nft("list", "tables"), "the table is back")
    eventually(lambda: ask(swarm.hub, front.address, 93) == ("steady", CLIENT), "the kernel serves again")


def test_a_crashed_daemon_leaves_traffic_alone_and_its_successor_takes_over(swarm: Bed) -> None:
    kept, stray = swarm.container(1, "kept"), swarm.container(1, "stray")
    swarm.publish(94, kept)
    node = swarm.nodes[0]
    before = node.call("attached")
    node.end()
    assert ask(swarm.hub, node.address, 94) == ("kept", CLIENT)
    node.boot()
    node.call("configure", self_node=msgspec.to_builtins(node.view))
    named = [found for found in before if found["task_id"] != "stray"]
    gone = {"task_id": "gone", "pid": 1, "address": "10.128.1.200"}
    assert node.call("restore", attachments=[*named, gone]) == ["gone"]
    assert ask(swarm.hub, node.address, 94) == ("kept", CLIENT)
    swarm.push()
    assert ask(swarm.hub, node.address, 94) == ("kept", CLIENT)
    assert stray.address not in inside(stray.namespace, lambda: socket_addresses(stray))


def socket_addresses(container: Container) -> str:
    """The addresses of the container's namespace, as /proc tells them."""
    with open(f"/proc/{container.pid}/net/fib_trie") as file:
        return file.read()


def test_a_listening_container_is_seen_from_outside(swarm: Bed) -> None:
    made = swarm.container(1, "listener")
    assert made.node.call("listening", pid=made.pid, protocol="tcp", port=8000)
    assert made.node.call("listening", pid=made.pid, protocol="udp", port=8000)
    assert not made.node.call("listening", pid=made.pid, protocol="tcp", port=8001)


def test_attaching_again_keeps_the_address_and_a_held_address_is_refused(swarm: Bed) -> None:
    made = swarm.container(1, "again")
    assert made.node.call("attach", task_id="again", pid=made.pid) == made.address
    with pytest.raises(SwarmError, match="is held by task again"):
        made.node.call("attach", task_id="other", pid=made.pid, address=made.address)
    with pytest.raises(SwarmError, match="is not a usable address of this node's block"):
        made.node.call("attach", task_id="other", pid=made.pid, address="10.128.9.9")
    with pytest.raises(SwarmError, match="is there already"):
        made.node.call("attach", task_id="other", pid=made.pid)
    with pytest.raises(SwarmError, match="process 4194304 is not there any more"):
        made.node.call("attach", task_id="other", pid=4194304)


def test_detaching_and_stopping_leave_nothing() -> None:
    with bed(1, name="x") as small:
        node = small.nodes[0]
        made = small.container(1, "only")
        small.publish(80, made)
        node.call("stop", clean=True)
        links = run("ip", "-n", node.namespace, "-brief", "link")
        assert {line.split("@")[0].split()[0] for line in links.splitlines()} == {"lo", "eth0"}
        assert node.nft("list", "ruleset") == ""
        assert run("ip", "-n", node.namespace, "route").split("\n")[0].startswith("172.30.0.0/24")
        assert len(run("ip", "-n", node.namespace, "route").splitlines()) == 1
        assert refused(small.hub, node.address, 80)


def test_without_nftables_the_proxy_carries_everything() -> None:
    with bed(2, name="p", environment={"SWARM_BED_NFT": "missing"}) as small:
        made = [small.container(number, f"p{number}") for number in (1, 2)]
        small.publish(80, *made)
        assert not small.nodes[0].can["nft"]
        assert "install the package nftables" in small.nodes[0].can["missing"][0]
        for node in small.nodes:
            assert names({ask(small.hub, node.address, 80) for _ in range(6)}) == {"p1", "p2"}


def test_without_dup_other_nodes_traffic_is_masqueraded() -> None:
    with bed(2, name="m", environment={"SWARM_BED_DUP": "missing"}) as small:
        small.publish(80, small.container(2, "masked"))
        assert not small.nodes[0].can["keep_source"]
        assert ask(small.hub, small.nodes[0].address, 80) == ("masked", "10.128.1.0")
        assert ask(small.hub, small.nodes[1].address, 80) == ("masked", CLIENT)
        assert ask(small.nodes[0].namespace, small.nodes[0].address, 80)[0] == "masked"
