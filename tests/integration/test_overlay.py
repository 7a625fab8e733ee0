"""Networks of the swarm on real kernels: three nodes, two networks, and whoever is in none."""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import Iterator

import msgspec
import pytest

from swarmd.model.errors import SwarmError
from swarmd.node.network.port import NetworkView
from tests.integration.network_bed import Container, ask, eventually, inside, run
from tests.integration.overlay_bed import BLUE, RED, Overlay, overlay, ping, refusal, udp

pytestmark = pytest.mark.root
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
CLIENT = "172.30.0.100"


@pytest.fixture(scope="module")
def swarm() -> Iterator[Overlay]:
    with overlay(3, BLUE, RED) as made:
        made.join(1, "one", {"blue": 11, "red": 11})
        made.join(1, "near", {"blue": 12})
        made.join(2, "far", {"blue": 13})
        made.join(2, "other", {"red": 14})
        made.join(3, "third", {"blue": 15})
        made.join(1, "nowhere", {})
        yield made


def named(swarm: Overlay, name: str) -> Container:
    return next(made for made in swarm.containers if made.name == name)


# -- reach and isolation -----------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("other", ["near", "far", "third"])
def test_containers_of_a_network_reach_each_other_and_see_each_others_address_there(
    swarm: Overlay, other: str, family: int
) -> None:
    one, target = named(swarm, "one"), named(swarm, other)
    address = swarm.address(target, "blue", family)
    assert ask(one.namespace, address, 8000) == (other, swarm.address(one, "blue", family))
    assert udp(one, address) == f"{other} {swarm.address(one, 'blue', family)}"


@FAMILIES
@pytest.mark.parametrize("caller", ["near", "far", "third", "nowhere"])
def test_nobody_reaches_a_container_by_a_network_that_it_is_not_in(
    swarm: Overlay, caller: str, family: int
) -> None:
    for target in (named(swarm, "other"), named(swarm, "one")):
        assert refusal(named(swarm, caller), swarm.address(target, "red", family))


@FAMILIES
@pytest.mark.parametrize("caller", ["near", "far"])
def test_home_addresses_do_not_lead_from_container_to_container(
    swarm: Overlay, caller: str, family: int
) -> None:
    one = named(swarm, "one")
    home = one.address if family == 4 else home6(one)
    assert refusal(named(swarm, caller), home) in (errno.EHOSTUNREACH, errno.EACCES)


def home6(container: Container) -> str:
    return str(container.node.call("attachment", task_id=container.name)["address6"])


@FAMILIES
def test_an_address_of_the_network_that_nobody_has_is_unreachable(swarm: Overlay, family: int) -> None:
    unused = swarm.addresses("blue", 99)[family == 6]
    assert refusal(named(swarm, "one"), unused) in (errno.EHOSTUNREACH, errno.ENETUNREACH)


@FAMILIES
def test_a_container_cannot_speak_from_an_address_that_is_not_its_own(swarm: Overlay, family: int) -> None:
    liar, victim = named(swarm, "near"), named(swarm, "one")
    stolen = swarm.address(victim, "blue", family)
    length = 32 if family == 4 else 128
    inside_liar = ("nsenter", f"--net={liar.namespace}", "ip", "address")
    run(*inside_liar, "add", f"{stolen}/{length}", "dev", "eth0", *(["nodad"] if family == 6 else []))
    try:
        for target in ("far", "third"):
            address = swarm.address(named(swarm, target), "blue", family)
            assert refusal(liar, address, source=stolen, seconds=3.0) == errno.EAGAIN  # nothing came back
    finally:
        run(*inside_liar, "del", f"{stolen}/{length}", "dev", "eth0")


def test_the_neighbourhood_of_a_node_does_not_reach_containers_by_their_addresses(swarm: Overlay) -> None:
    one = named(swarm, "one")
    for address in (one.address, swarm.address(one, "blue")):
        run("ip", "-n", swarm.hub, "route", "replace", f"{address}/32", "via", swarm.nodes[0].address)
        with pytest.raises(OSError, match="No route to host"):
            ask(swarm.hub, address, 8000)


def test_published_ports_reach_containers_of_networks_and_of_none(swarm: Overlay) -> None:
    for port, name in ((9001, "one"), (9002, "nowhere")):
        swarm.publish(port, named(swarm, name))
        for node in swarm.nodes:
            assert ask(swarm.hub, node.address, port) == (name, CLIENT)
        assert ask(named(swarm, "far").namespace, swarm.nodes[0].address, port)[0] == name


# -- virtual addresses -------------------------------------------------------------------------------


@FAMILIES
def test_a_virtual_address_leads_to_every_task_of_the_service_from_everywhere(
    swarm: Overlay, family: int
) -> None:
    made = [
        swarm.join(number, f"web{family}{number}", {"blue": 20 + 5 * family + number}, service=f"web{family}")
        for number in (1, 2, 3)
    ]
    virtual = swarm.serve(f"web{family}", "blue", 2 + family)[family == 6]
    every = {container.name for container in made}
    for caller in (named(swarm, "one"), named(swarm, "third"), made[0]):
        found = {ask(caller.namespace, virtual, 8000) for _ in range(40)}
        assert {name for name, _ in found} == every
        own = swarm.address(caller, "blue", family)
        itself = {"169.254.1.1", "fd73:7761:726d::1"}
        assert all(seen == own or (name == caller.name and seen in itself) for name, seen in found)


@FAMILIES
def test_a_virtual_address_answers_pings_and_every_port(swarm: Overlay, family: int) -> None:
    swarm.join(2, f"ping{family}", {"blue": 60 + family}, service=f"ping{family}")
    virtual = swarm.serve(f"ping{family}", "blue", 70 + family)[family == 6]
    one = named(swarm, "one")
    assert ping(one, virtual) == virtual
    assert refusal(one, virtual, 8001) == errno.ECONNREFUSED  # by the container itself: nobody listens
    assert udp(one, virtual).startswith(f"ping{family} ")


@FAMILIES
def test_a_virtual_address_of_another_network_leads_nowhere(swarm: Overlay, family: int) -> None:
    swarm.join(1, f"secret{family}", {"red": 60 + family}, service=f"secret{family}")
    virtual = swarm.serve(f"secret{family}", "red", 70 + family)[family == 6]
    assert ask(named(swarm, "one").namespace, virtual, 8000)[0] == f"secret{family}"
    for caller in ("near", "nowhere", "third"):
        assert refusal(named(swarm, caller), virtual)


def test_a_virtual_address_without_tasks_refuses_at_once_until_there_is_one(swarm: Overlay) -> None:
    four, six = swarm.serve("later", "blue", 80)
    one = named(swarm, "one")
    assert [refusal(one, address) for address in (four, six)] == [errno.ECONNREFUSED] * 2
    task = swarm.join(3, "later1", {"blue": 81}, service="later")
    assert [ask(one.namespace, address, 8000)[0] for address in (four, six)] == ["later1"] * 2
    swarm.leave(task)
    assert [refusal(one, address) for address in (four, six)] == [errno.ECONNREFUSED] * 2


def hold(container: Container, address: str) -> socket.socket:
    return inside(container.namespace, lambda: socket.create_connection((address, 8000), timeout=30))


def finish(sock: socket.socket) -> str:
    """The name of the container that answers on an open connection; how it ended if none does."""
    try:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := sock.recv(4096):
            answer += chunk
        return answer.rpartition(b"\n")[2].split()[0].decode()
    except ConnectionResetError:
        return "reset"
    finally:
        sock.close()


def test_connections_to_a_task_that_leaves_go_on_and_new_ones_go_elsewhere(swarm: Overlay) -> None:
    old = swarm.join(2, "old", {"blue": 91}, service="rolling")
    virtual = swarm.serve("rolling", "blue", 90)[0]
    one = named(swarm, "one")
    held = hold(one, virtual)
    assert udp(one, virtual, source=4444).startswith("old ")
    swarm.join(3, "new", {"blue": 92}, service="rolling")
    swarm.leave(old)
    assert {ask(one.namespace, virtual, 8000)[0] for _ in range(20)} == {"new"}
    assert udp(one, virtual, source=4444).startswith("new ")
    assert finish(held) == "old"


@FAMILIES
def test_connections_to_tasks_of_a_dead_node_are_reset(swarm: Overlay, family: int) -> None:
    name = f"doomed{family}"
    task = swarm.join(2, name, {"blue": 100 + family}, service=name)
    virtual = swarm.serve(name, "blue", 110 + family)[family == 6]
    one = named(swarm, "one")
    held = [hold(one, virtual), hold(one, swarm.address(task, "blue", family))]
    swarm.dead = {"node2"}
    swarm.push()
    try:
        assert [finish(sock) for sock in held] == ["reset", "reset"]
        assert refusal(one, virtual) == errno.ECONNREFUSED
    finally:
        swarm.dead = set()
        swarm.push()
    assert ask(one.namespace, virtual, 8000)[0] == name


def test_a_node_that_gossip_calls_dead_is_left_out(swarm: Overlay) -> None:
    for number in (2, 3):
        swarm.join(number, f"masked{number}", {"blue": 120 + number}, service="masked")
    virtual = swarm.serve("masked", "blue", 120)[0]
    one = named(swarm, "one")

    def seen() -> set[str]:
        return {ask(one.namespace, virtual, 8000)[0] for _ in range(20)}

    one.node.call("mask", node_ids=["node2"])
    eventually(lambda: seen() == {"masked3"}, "node 2 is left out")
    one.node.call("mask", node_ids=[])
    eventually(lambda: seen() == {"masked2", "masked3"}, "node 2 is back")


# -- coming and going --------------------------------------------------------------------------------


@FAMILIES
def test_a_running_container_joins_and_leaves_a_network(swarm: Overlay, family: int) -> None:
    guest = swarm.join(1, f"guest{family}", {"blue": 130 + family})
    other = named(swarm, "other")
    target = swarm.address(other, "red", family)
    held = hold(guest, swarm.address(named(swarm, "far"), "blue", family))
    assert refusal(guest, target)
    swarm.move(guest, {"blue": 130 + family, "red": 130 + family})
    assert ask(guest.namespace, target, 8000) == ("other", swarm.address(guest, "red", family))
    assert ask(other.namespace, swarm.address(guest, "red", family), 8000)[0] == guest.name
    swarm.move(guest, {"blue": 130 + family})
    assert refusal(guest, target)
    assert finish(held) == "far"


def test_a_container_waits_for_its_network_and_is_refused_one_over_addresses_of_nodes(swarm: Overlay) -> None:
    bad = NetworkView(id="bad", name="bad", subnets=("172.30.0.0/24",))
    swarm.networks["bad"] = bad
    with pytest.raises(SwarmError, match=r"contains 172\.30\.0\.1, the address of a node"):
        swarm.join(1, "victim", {"bad": 77})
    problems = swarm.nodes[0].call("problems")
    swarm.end(named(swarm, "victim"))
    assert any("network bad cannot be used on this node" in problem for problem in problems)
    assert swarm.nodes[0].call("problems") == []


def test_a_container_that_switches_ipv6_off_has_its_ipv4_addresses(swarm: Overlay) -> None:
    plain = swarm.join(1, "plain", {"blue": 140}, without_ipv6=True)
    assert plain.node.call("attachment", task_id="plain")["networks"] == [["blue", ["10.20.0.140"]]]
    assert ask(named(swarm, "far").namespace, "10.20.0.140", 8000)[0] == "plain"


def test_a_flushed_ruleset_is_built_again_with_its_networks(swarm: Overlay) -> None:
    swarm.join(2, "steady", {"blue": 151}, service="steady")
    four, six = swarm.serve("steady", "blue", 150)
    one = named(swarm, "one")
    one.node.nft("flush", "ruleset")
    eventually(lambda: refusal(one, four) == refusal(one, six) == 0, "virtual addresses lead to tasks again")
    eventually(
        lambda: refusal(named(swarm, "near"), swarm.address(one, "red")) != 0, "networks are apart again"
    )


def test_a_crashed_daemon_leaves_networks_alone_and_its_successor_takes_over(swarm: Overlay) -> None:
    swarm.join(2, "kept", {"blue": 161}, service="kept")
    four, six = swarm.serve("kept", "blue", 160)
    one = named(swarm, "one")
    node = one.node
    attached = node.call("attached")
    held = [hold(one, four), hold(one, six), hold(one, swarm.address(named(swarm, "far"), "blue"))]
    node.end()
    assert ask(one.namespace, four, 8000)[0] == "kept"
    node.boot()
    node.call("configure", self_node=msgspec.to_builtins(node.view))
    assert node.call("restore", attachments=attached) == []
    assert ask(one.namespace, six, 8000)[0] == "kept"
    swarm.push()
    assert [finish(sock) for sock in held] == ["kept", "kept", "far"]
    assert refusal(named(swarm, "near"), swarm.address(one, "red"))
    later = swarm.join(1, "afterwards", {"blue": 162})
    assert ask(later.namespace, swarm.address(named(swarm, "far"), "blue", 6), 8000)[0] == "far"


# -- internal networks -------------------------------------------------------------------------------


def test_an_internal_network_has_no_way_out_but_its_published_ports_answer() -> None:
    vault = NetworkView(id="vault", name="vault", subnets=("10.22.0.0/24", "fd22::/64"), internal=True)
    with overlay(2, vault, BLUE, name="i") as small:
        safe = small.join(1, "safe", {"vault": 5})
        both = small.join(1, "both", {"vault": 6, "blue": 6})
        far = small.join(2, "far", {"vault": 7})
        for family in (4, 6):
            assert ask(safe.namespace, small.address(far, "vault", family), 8000)[0] == "far"
        server = inside(small.hub, lambda: socket.create_server((CLIENT, 9000)))
        assert refusal(both, CLIENT, 9000) == 0
        assert refusal(safe, CLIENT, 9000) in (errno.EHOSTUNREACH, errno.EACCES)
        assert refusal(safe, CLIENT, 9000, source=small.address(safe, "vault")) in (
            errno.EHOSTUNREACH,
            errno.EACCES,
        )
        here = small.nodes[0].address
        listener = inside(small.nodes[0].namespace, lambda: socket.create_server((here, 9001)))
        assert refusal(both, here, 9001) == 0
        assert refusal(safe, here, 9001) in (errno.EHOSTUNREACH, errno.EACCES)
        small.publish(9002, safe, both)
        assert {ask(small.hub, node.address, 9002) for node in small.nodes for _ in range(20)} == {
            ("safe", CLIENT),
            ("both", CLIENT),
        }
        assert refusal(safe, here, 9002)
        for sock in (server, listener):
            sock.close()


def big(namespace: str, address: str, port: int = 8000) -> int:
    """How many bytes of a large answer arrive."""

    def download() -> int:
        with socket.create_connection((address, port), timeout=30) as sock:
            sock.sendall(b"GET /big HTTP/1.0\r\n\r\n")
            received = 0
            while chunk := sock.recv(1 << 16):
                received += len(chunk)
            return received

    return inside(namespace, download)


def segment(namespace: str, address: str, port: int) -> int:
    """The largest segment that a client sends."""

    def connect() -> int:
        with socket.create_connection((address, port), timeout=30) as sock:
            return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)

    return inside(namespace, connect)


def test_large_answers_pass_between_nodes_whose_links_carry_packets_of_different_sizes() -> None:
    whole = 3_000_000 + len("HTTP/1.0 200 OK\r\n\r\n")
    with overlay(3, BLUE, name="z") as small:
        run("ip", "-n", small.hub, "link", "set", "hub0", "mtu", "1500")
        for number, (node, mtu) in enumerate(zip(small.nodes, (1280, 1350, 1500), strict=True), 1):
            run("ip", "-n", small.hub, "link", "set", f"p{number}", "mtu", str(mtu))
            run("ip", "-n", node.namespace, "link", "set", "eth0", "mtu", str(mtu))
            node.call("configure", self_node=msgspec.to_builtins(node.view))
        made = [small.join(number, f"size{number}", {"blue": number}) for number in (1, 2, 3)]
        for client, server in itertools.permutations(made, 2):
            for family in (4, 6):
                assert big(client.namespace, small.address(server, "blue", family)) == whole
        for place, server in enumerate(made):
            small.publish(9100 + place, server)
            for node in small.nodes:
                assert big(small.hub, node.address, 9100 + place) == whole
        assert segment(small.hub, small.nodes[0].address, 9102) <= 1280 - 50 - 40


def test_stopping_leaves_nothing_of_networks() -> None:
    with overlay(2, BLUE, name="y") as small:
        small.join(1, "only", {"blue": 5})
        small.join(2, "far", {"blue": 6})
        node = small.nodes[0]
        assert "unreachable 10.20.0.0/24" in run("ip", "-n", node.namespace, "route")
        node.call("stop", clean=True)
        assert node.nft("list", "ruleset") == ""
        for family in ("-4", "-6"):
            routes = run("ip", family, "-n", node.namespace, "route")
            assert "10.20." not in routes
            assert "fd20:" not in routes
            assert "fd73:" not in routes
