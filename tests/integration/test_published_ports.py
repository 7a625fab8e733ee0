"""What published ports can be asked for, on real kernels: both families, on one address, for some clients."""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections.abc import Iterator

import msgspec
import pytest

from tests.integration.network_bed import Bed, ask, ask_from, bed, eventually, inside, run

pytestmark = pytest.mark.root
CLIENT, CLIENT6 = "172.30.0.100", "fd00:30::100"
PROXY_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


@pytest.fixture(scope="module")
def swarm() -> Iterator[Bed]:
    with bed(3, name="q") as made:
        run("ip", "-n", made.hub, "-6", "address", "add", f"{CLIENT6}/64", "dev", "hub0", "nodad")
        for node in made.nodes:
            address = f"{address6(node.view.number)}/64"
            run("ip", "-n", node.namespace, "-6", "address", "add", address, "dev", "eth0", "nodad")
        yield made


@pytest.fixture
def six(swarm: Bed) -> None:
    """Containers have IPv6 addresses; not so on a machine without IPv6."""
    if not swarm.container(1, f"six-{len(swarm.containers)}").address6:
        pytest.skip("containers have no IPv6 addresses here")


@pytest.fixture(params=[4, 6])
def family(request: pytest.FixtureRequest) -> int:
    if request.param == 6:
        request.getfixturevalue("six")
    return int(request.param)


def address6(number: int) -> str:
    return f"fd00:30::{number}"


def outcome(namespace: str, address: str, port: int) -> str:
    """``served``, or the name of the error that a connection ends with."""

    def attempt() -> str:
        try:
            with socket.create_connection((address, port), timeout=60) as sock:
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return "served" if sock.recv(100) else "nothing"
        except OSError as error:
            return errno.errorcode[error.errno] if error.errno else str(error)

    return inside(namespace, attempt)


@pytest.mark.usefixtures("six")
def test_every_node_answers_on_ipv6_for_every_other_and_the_client_keeps_its_address(swarm: Bed) -> None:
    made = [swarm.container(number, f"six{number}") for number in (1, 2, 3)]
    for place, container in enumerate(made):
        swarm.publish(80 + place, container)
        for node in swarm.nodes:
            found = ask(swarm.hub, address6(node.view.number), 80 + place)
            assert found == (container.name, CLIENT6), f"through {node.view.id}"


@pytest.mark.usefixtures("six")
def test_one_source_port_reaches_one_ipv6_container_through_every_node(swarm: Bed) -> None:
    only = swarm.container(2, "only6")
    swarm.publish(83, only)
    held = []
    for node in swarm.nodes:
        to = (address6(node.view.number), 83)
        name, client, sock = ask_from(swarm.hub, (CLIENT6, 23000), to, "client", hold=True)
        held.append(sock)
        assert (name, client) == ("only6", CLIENT6)
    for sock in held:
        sock.close()


@pytest.mark.usefixtures("six")
def test_a_node_and_its_containers_reach_ipv6_ports_of_any_node(swarm: Bed) -> None:
    made = [swarm.container(number, f"near{number}") for number in (1, 2)]
    swarm.publish(84, *made)
    for namespace in (swarm.nodes[0].namespace, made[0].namespace):
        for number in (1, 2, 3):
            found = {ask(namespace, address6(number), 84)[0] for _ in range(20)}
            assert found == {"near1", "near2"}
    assert ask(swarm.nodes[0].namespace, "::1", 84)[0] in {"near1", "near2"}


def test_an_ipv6_port_without_backends_is_refused_and_one_with_old_tasks_is_served_by_the_proxy(
    swarm: Bed,
) -> None:
    swarm.publish(85)
    assert outcome(swarm.hub, address6(1), 85) == "ECONNREFUSED"
    assert outcome(swarm.nodes[0].namespace, "::1", 85) == "ECONNREFUSED"
    old = swarm.container(2, "old")
    old.address6 = ""
    swarm.publish(85, old)
    assert ask(swarm.hub, address6(1), 85)[0] == "old"
    assert ask(swarm.hub, swarm.nodes[0].address, 85) == ("old", CLIENT)


@pytest.mark.usefixtures("six")
def test_ipv6_udp_reaches_another_node_and_moves_when_the_backend_leaves(swarm: Bed) -> None:
    first, second = swarm.container(2, "udp6-old"), swarm.container(3, "udp6-new")
    swarm.publish(86, first, protocol="udp")
    assert udp(swarm.hub, address6(1), 86) == f"udp6-old {CLIENT6}"
    swarm.publish(86, second, protocol="udp")
    assert udp(swarm.hub, address6(1), 86) == f"udp6-new {CLIENT6}"
    swarm.publish(86, protocol="udp")
    assert udp(swarm.hub, address6(1), 86) == "refused"


def udp(namespace: str, address: str, port: int) -> str:
    def request() -> str:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("", 5600))
            sock.settimeout(30)
            sock.connect((address, port))
            sock.send(b"?")
            try:
                return sock.recv(100).decode()
            except ConnectionRefusedError:
                return "refused"

    return inside(namespace, request)


@pytest.mark.usefixtures("six")
def test_rules_of_both_families_come_back_after_a_foreign_flush(swarm: Bed) -> None:
    swarm.publish(87, swarm.container(2, "steady6"))
    front = swarm.nodes[0]
    front.nft("flush", "ruleset")
    assert ask(swarm.hub, address6(1), 87)[0] == "steady6"  # the proxy serves meanwhile
    eventually(lambda: ask(swarm.hub, address6(1), 87) == ("steady6", CLIENT6), "IPv6 in the kernel again")
    eventually(lambda: ask(swarm.hub, front.address, 87) == ("steady6", CLIENT), "IPv4 in the kernel again")


def test_a_sticky_client_meets_one_container_through_every_node(swarm: Bed, family: int) -> None:
    made = [swarm.container(1 + place % 3, f"sticky{family}-{place}") for place in range(6)]
    swarm.publish(90, *made, sticky=True)
    clients = _more_addresses(swarm, family)
    seen: dict[str, str] = {}
    for client in clients:
        answers = {
            ask_from(swarm.hub, (client, 0), (_front(swarm, number, family), 90), "server")[0]
            for number in (1, 2, 3)
            for _ in range(3)
        }
        assert len(answers) == 1, f"{client} was answered by {answers}"
        seen[client] = answers.pop()
    assert len(set(seen.values())) > 1


def _front(swarm: Bed, number: int, family: int) -> str:
    return swarm.nodes[number - 1].address if family == 4 else address6(number)


def _more_addresses(swarm: Bed, family: int) -> list[str]:
    """Six client addresses in the hub."""
    pattern, size = ("172.30.0.{}", 24) if family == 4 else ("fd00:30::{}", 64)
    made = [pattern.format(number) for number in range(110, 116)]
    for address in made:
        more = ("nodad", "preferred_lft", "0") if family == 6 else ()  # never chosen by itself
        run("ip", "-n", swarm.hub, "address", "replace", f"{address}/{size}", "dev", "hub0", *more)
    return made


@pytest.mark.usefixtures("six")
def test_only_allowed_clients_are_served_and_the_others_find_a_closed_port(swarm: Bed) -> None:
    far = swarm.container(2, "guarded")
    swarm.publish(91, far, allow=["172.30.0.100/32", "fd00:30::100/128", "172.30.0.96/29"])
    for number in (1, 2):
        for family, client in ((4, CLIENT), (6, CLIENT6)):
            assert ask(swarm.hub, _front(swarm, number, family), 91) == ("guarded", client)
    stranger = swarm.nodes[2].namespace
    for family in (4, 6):
        assert outcome(stranger, _front(swarm, 1, family), 91) == "ECONNREFUSED"
    assert outcome(swarm.nodes[0].namespace, "127.0.0.1", 91) == "ECONNRESET"  # the proxy says no, too
    swarm.publish(91, far, allow=["172.30.0.0/24"])
    assert ask(stranger, _front(swarm, 1, 4), 91)[0] == "guarded"
    assert outcome(swarm.hub, address6(1), 91) == "ECONNREFUSED"


def test_two_services_share_a_number_on_different_addresses_of_a_node(swarm: Bed) -> None:
    front = swarm.nodes[0]
    for address in ("172.30.0.201", "172.30.0.202"):
        run("ip", "-n", front.namespace, "address", "replace", f"{address}/24", "dev", "eth0")
    one, two = swarm.container(2, "host-one"), swarm.container(3, "host-two")
    swarm.publish(92, one, host_ip="172.30.0.201")
    swarm.publish(92, two, host_ip="172.30.0.202")
    assert ask(swarm.hub, "172.30.0.201", 92) == ("host-one", CLIENT)
    assert ask(swarm.hub, "172.30.0.202", 92) == ("host-two", CLIENT)
    assert outcome(swarm.hub, front.address, 92) == "ECONNREFUSED"
    assert outcome(swarm.hub, swarm.nodes[1].address, 92) == "ECONNREFUSED"  # it has neither address
    assert [node.call("problems") for node in swarm.nodes] == [[], [], []]
    swarm.publish(92, host_ip="172.30.0.201")
    assert outcome(swarm.hub, "172.30.0.201", 92) == "ECONNREFUSED"


@pytest.mark.usefixtures("six")
def test_a_port_of_an_interface_follows_its_addresses(swarm: Bed) -> None:
    front = swarm.nodes[0]
    swarm.publish(93, swarm.container(2, "by-interface"), host_ip="eth0", sticky=True)
    for family, client in ((4, CLIENT), (6, CLIENT6)):
        assert ask(swarm.hub, _front(swarm, 1, family), 93) == ("by-interface", client)
    assert outcome(front.namespace, "127.0.0.1", 93) == "ECONNREFUSED"
    run("ip", "-n", front.namespace, "address", "add", "172.30.0.203/24", "dev", "eth0")
    eventually(lambda: outcome(swarm.hub, "172.30.0.203", 93) == "served", "the new address is served")
    run("ip", "-n", front.namespace, "address", "delete", "172.30.0.203/24", "dev", "eth0")


def test_masked_containers_see_an_address_of_the_node(swarm: Bed, family: int) -> None:
    made = [swarm.container(number, f"masked{family}-{number}") for number in (1, 2)]
    swarm.publish(94, *made, source="masquerade")
    found = {ask(swarm.hub, _front(swarm, 1, family), 94) for _ in range(30)}
    assert {name for name, _ in found} == {container.name for container in made}
    assert not {client for _, client in found} & {CLIENT, CLIENT6}


def test_a_container_that_speaks_the_proxy_protocol_is_told_the_client(swarm: Bed, family: int) -> None:
    listener = swarm.container(2, f"announced{family}")
    listener.attach(published=[["tcp", 8888]])
    received: list[bytes] = []
    server = inside(listener.namespace, lambda: socket.create_server(("0.0.0.0", 8888)))

    def serve() -> None:
        server.settimeout(30)
        connection, _ = server.accept()
        with connection:
            connection.settimeout(30)
            while not received or not received[-1].endswith(b"hello!"):
                received.append((received[-1] if received else b"") + connection.recv(1000))
            connection.sendall(b"yes")

    thread = threading.Thread(target=serve)
    thread.start()
    swarm.publish(95, (listener, 8888), source="proxy-protocol")
    to = (_front(swarm, 1, family), 95)
    client = CLIENT if family == 4 else CLIENT6

    def call() -> bytes:
        with socket.create_connection(to, timeout=30, source_address=(client, 24000 + family)) as sock:
            sock.sendall(b"hello!")
            return sock.recv(100)

    try:
        assert inside(swarm.hub, call) == b"yes"
    finally:
        thread.join()
        server.close()
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    addresses = socket.inet_pton(kind, client) + socket.inet_pton(kind, to[0])
    body = addresses + struct.pack("!HH", 24000 + family, 95)
    head = bytes([0x21, 0x11 if family == 4 else 0x21]) + struct.pack("!H", len(body))
    assert received[-1] == PROXY_SIGNATURE + head + body + b"hello!"


def test_the_kernel_passes_sctp_on(swarm: Bed) -> None:
    """This kernel has no SCTP sockets: an INIT chunk is written and read by hand."""
    listener = swarm.container(2, "sctp")
    listener.attach(published=[["sctp", 8000]])
    swarm.publish(96, listener, protocol="sctp")

    def raw() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
        sock.settimeout(30)
        return sock

    receiver, sender = inside(listener.namespace, raw), inside(swarm.hub, raw)
    with receiver, sender:
        chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 7, 65535, 1, 1, 1)
        head = struct.pack("!HHI", 4000, 96, 0)
        packet = head + struct.pack("<I", _crc32c(head + bytes(4) + chunk)) + chunk
        sender.sendto(packet, (swarm.nodes[0].address, 0))
        data, (client, _) = receiver.recvfrom(1000)
    assert client == CLIENT
    segment = data[(data[0] & 15) * 4 :]
    assert struct.unpack("!HH", segment[:4]) == (4000, 8000)
    assert segment[12:] == chunk
    checked = segment[:8] + bytes(4) + segment[12:]
    assert struct.unpack("<I", segment[8:12])[0] == _crc32c(checked)


def _crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


@pytest.mark.usefixtures("six")
def test_connections_are_counted_by_port(swarm: Bed) -> None:
    swarm.publish(97, swarm.container(2, "counted"))
    front = swarm.nodes[0]
    for _ in range(3):
        ask(swarm.hub, front.address, 97)
    for _ in range(2):
        ask(swarm.hub, address6(1), 97)
    ask(front.namespace, "127.0.0.1", 97)
    (found,) = [one for one in front.call("traffic")["ports"] if one["port"] == 97]
    assert (found["protocol"], found["host_ip"], found["kernel"], found["proxy"]) == ("tcp", "", 5, 1)
    swarm.publish(98)
    (same,) = [one for one in front.call("traffic")["ports"] if one["port"] == 97]
    assert same == found  # other ports change nothing


def test_a_foreign_firewall_that_drops_is_said_with_a_cure_that_works() -> None:
    with bed(2, name="f") as small:
        front = small.nodes[0]
        front.end()
        table = "table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }"
        front.nft(table.replace("table", "add table", 1))
        front.boot()
        front.call("configure", self_node=msgspec.to_builtins(front.view))
        small.publish(80, small.container(2, "behind"), small.container(1, "beside"))
        eventually(lambda: bool(front.call("problems")), "the firewall is found")
        (sentence,) = front.call("problems")
        assert sentence.startswith("nftables chain inet filter forward drops what this node passes on")
        with pytest.raises(TimeoutError):
            ask(small.hub, front.address, 80, timeout=0.5)
        for rule in sentence.partition("nft '")[2].rstrip("'").split("; "):
            front.nft(*rule.split())
        found = {ask(small.hub, front.address, 80) for _ in range(40)}
        assert found == {("behind", CLIENT), ("beside", CLIENT)}
        eventually(lambda: front.call("problems") == [], "the rules are seen")


@pytest.fixture(scope="module")
def proxied() -> Iterator[Bed]:
    with bed(2, name="u", environment={"SWARM_BED_NFT": "missing"}) as made:
        run("ip", "-n", made.hub, "-6", "address", "add", f"{CLIENT6}/64", "dev", "hub0", "nodad")
        for node in made.nodes:
            address = f"{address6(node.view.number)}/64"
            run("ip", "-n", node.namespace, "-6", "address", "add", address, "dev", "eth0", "nodad")
        yield made


def test_without_nftables_the_proxy_does_what_it_can_of_all_this(proxied: Bed) -> None:
    made = [proxied.container(number, f"plain{number}") for number in (1, 2)]
    proxied.publish(80, *made, sticky=True)
    proxied.publish(81, *made, allow=[f"{CLIENT}/32", "fd00:30::2/128"])
    proxied.publish(82, *made, host_ip="eth0")
    proxied.publish(83, *made, protocol="udp", sticky=True)
    proxied.publish(84, *made, protocol="sctp")
    front = proxied.nodes[0]
    for address in (front.address, address6(1)):
        assert len({ask(proxied.hub, address, 80)[0] for _ in range(6)}) == 1
        assert {ask(proxied.hub, address, 82)[0] for _ in range(6)} == {"plain1", "plain2"}
    assert ask(proxied.hub, front.address, 81)[0].startswith("plain")
    assert outcome(proxied.hub, address6(1), 81) == "ECONNRESET"
    assert outcome(front.namespace, "127.0.0.1", 82) == "ECONNREFUSED"
    assert udp(proxied.hub, address6(1), 83).startswith("plain")
    (problem,) = front.call("problems")
    assert problem.startswith(
        "port 84/sctp is not served by this node: SCTP is passed on by the kernel alone"
    )
