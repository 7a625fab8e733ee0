"""What a node makes of the networks it is told of: routes, elements of sets, addresses of containers."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable
from ipaddress import ip_address

import msgspec
import pytest

from swarmd.model.errors import Unavailable
from swarmd.node.network.core import networks
from swarmd.node.network.core.addresses import BACKEND_IS
from swarmd.node.network.core.peers import Hop, peers
from swarmd.node.network.core.sources import Source, device_mtu, kept, sources
from swarmd.node.network.port import (
    Attachment,
    Endpoint,
    NetworkState,
    NetworkView,
    NodeView,
    ServiceView,
)

BLUE = NetworkView(id="blue", name="blue", subnets=("10.20.0.0/24", "fd20::/64"))
RED = NetworkView(id="red", name="red", subnets=("10.21.0.0/24",), internal=True)
NODES = tuple(
    NodeView(f"n{number}", number, f"192.0.2.{number}", f"10.128.{number}.0/24") for number in (1, 2, 3)
)
ALIVE = {node.id for node in NODES}
WEB = ServiceView(id="web", name="web", network_id="blue", addresses=("10.20.0.2", "fd20::2"))


def endpoint(
    place: int, node: str, *, service: str = "web", network: NetworkView = BLUE, up: bool = True
) -> Endpoint:
    addresses = (f"{network.subnets[0][:-4]}{place}", *([f"fd20::{place:x}"] if network is BLUE else []))
    return Endpoint(
        task_id=f"t{place}", name=f"t{place}", service_id=service, slot=1, node_id=node,
        network_id=network.id, addresses=addresses, up=up,
    )  # fmt: skip


def text(packed: Iterable[bytes]) -> set[str]:
    return {str(ip_address(one)) for one in packed}


def test_tasks_of_other_nodes_are_reached_through_their_node_and_nothing_else_of_the_prefix_is() -> None:
    found = peers(NODES, "n1", [BLUE, RED], [endpoint(5, "n1"), endpoint(6, "n2"), endpoint(7, "gone")])
    assert found.routes["10.20.0.6", 32] == Hop("10.128.2.0")
    assert found.routes["fd20::6", 128] == Hop("fd73:7761:726d:2::")
    assert not {("10.20.0.5", 32), ("10.20.0.7", 32)} & found.routes.keys()
    assert set(found.unreachable) == {("10.20.0.0", 24), ("fd20::", 64), ("10.21.0.0", 24)}


def test_a_network_that_this_node_cannot_use_gets_no_routes() -> None:
    assert ("10.20.0.6", 32) not in peers(NODES, "n1", [RED], [endpoint(6, "n2")]).routes


@pytest.mark.parametrize(("here", "four", "six"), [(1450, 0, 0), (1280, 0, 0), (1230, 1230, 1280), (0, 0, 0)])
def test_packets_to_other_nodes_are_as_large_as_the_underlay_carries(here: int, four: int, six: int) -> None:
    routes = peers(NODES, "n1", [BLUE], [endpoint(6, "n2")], inner=here).routes
    assert routes["10.128.2.0", 24].mtu == routes["10.20.0.6", 32].mtu == four
    assert routes["fd20::6", 128].mtu == six


def test_a_virtual_address_leads_to_the_tasks_of_its_service_that_are_up_on_nodes_that_live() -> None:
    every = [
        endpoint(5, "n1"),
        endpoint(6, "n2"),
        endpoint(7, "n2", up=False),
        endpoint(8, "n3"),
        endpoint(9, "n1", service="other"),
        endpoint(10, "n1", network=RED),
    ]
    found = networks.spread([WEB], every, ALIVE - {"n3"}, {})
    assert Counter(found["10.20.0.2"]) == {"10.20.0.5": 30, "10.20.0.6": 30}
    assert set(found["fd20::2"]) == {"fd20::5", "fd20::6"}


def test_a_change_of_one_task_moves_only_its_share() -> None:
    before = networks.spread([WEB], [endpoint(place, "n1") for place in (5, 6, 7)], ALIVE, {})
    after = networks.spread([WEB], [endpoint(place, "n1") for place in (5, 6, 8)], ALIVE, before)
    moved = [new for old, new in zip(before["10.20.0.2"], after["10.20.0.2"], strict=True) if old != new]
    assert moved == ["10.20.0.8"] * 20
    assert networks.abandoned(before, after) == ("10.20.0.7", "fd20::7")
    assert networks.abandoned(before, before) == ()


def test_buckets_become_elements_of_the_map_of_their_family_and_size() -> None:
    many = networks.spread([WEB], [endpoint(place, "n1") for place in range(5, 30)], ALIVE, {})
    few = networks.spread([WEB], [endpoint(5, "n1")], ALIVE, {})
    assert [len(networks.virtual_tables(few)[family]["vip"]) for family in ("ip", "ip6")] == [60, 60]
    assert len(networks.virtual_tables(many)["ip"]["vip_large"]) == 1260
    first = ip_address("10.20.0.2").packed + struct.pack("=I", 0)
    assert networks.virtual_tables(few)["ip"]["vip"][first] == ip_address("10.20.0.5").packed


def test_virtual_addresses_and_tasks_of_dead_nodes_are_refused_where_nothing_translates() -> None:
    every = [endpoint(5, "n1"), endpoint(6, "n2"), endpoint(8, "n3")]
    made = networks.network_tables(
        [BLUE], every, NODES, virtual=WEB.addresses, alive=ALIVE - {"n3"}, self_id="n1"
    )
    assert text(made["ip"]["refused"]) == {"10.20.0.2", "10.20.0.8"}
    assert text(made["ip6"]["refused"]) == {"fd20::2", "fd20::8"}
    assert text(made["ip"]["node_of"]) == {"10.20.0.6", "10.20.0.8"}
    assert made["ip"]["node_of"][ip_address("10.20.0.6").packed] == struct.pack("=I", BACKEND_IS | 2)


def test_only_prefixes_of_one_network_may_speak_to_each_other() -> None:
    wide = NetworkView(id="wide", name="wide", subnets=("10.30.0.0/24", "10.31.0.0/16"))
    made = networks.network_tables([BLUE, wide], [], NODES, virtual=(), alive=ALIVE, self_id="n1")
    pairs = {
        tuple(str(ip_address(key[at : at + 4])) for at in (0, 4, 8, 12)) for key in made["ip"]["samenet"]
    }
    assert ("10.20.0.0", "10.20.0.0", "10.20.0.255", "10.20.0.255") in pairs
    assert ("10.30.0.0", "10.31.0.0", "10.30.0.255", "10.31.255.255") in pairs
    assert len(pairs) == 5


@pytest.mark.parametrize(
    ("subnet", "reason"),
    [
        ("192.0.2.0/24", "contains 192.0.2.1, the address of a node of the swarm"),
        ("10.128.9.0/24", "overlaps 10.128.0.0/10"),
        ("fd73:7761:726d:9::/64", "overlaps fd73:7761:726d::/48"),
        ("10.20.0.128/25", "overlaps 10.20.0.0/24"),
    ],
)
def test_a_network_over_addresses_in_use_is_left_out_with_a_reason(subnet: str, reason: str) -> None:
    bad = NetworkView(id="bad", name="bad", subnets=(subnet,))
    found = networks.usable(NetworkState(version=1, nodes=NODES, ports=(), networks=(BLUE, bad)))
    assert [network.id for network in found.networks] == ["blue"]
    assert found.clashes["bad"].startswith("network bad cannot be used on this node: ")
    assert reason in found.clashes["bad"]


def place(*joined: tuple[str, tuple[str, ...]], address6: str = "fd73:7761:726d:1::5") -> Attachment:
    return Attachment("t", 1, "10.128.1.5", networks=joined, address6=address6)


def test_only_containers_of_internal_networks_alone_have_no_way_out() -> None:
    inside = place(("red", ("10.21.0.5",)))
    both = place(("red", ("10.21.0.6",)), ("blue", ("10.20.0.6",)))
    views = {"red": RED, "blue": BLUE}
    made = networks.inward([inside, both, place()], views)
    assert text(made["ip"]["inward"]) == {"10.128.1.5", "10.21.0.5"}
    assert text(made["ip6"]["inward"]) == {"fd73:7761:726d:1::5"}


def test_a_container_speaks_to_a_network_from_its_address_there() -> None:
    found = sources(place(("blue", ("10.20.0.5", "fd20::5"))), {"blue": BLUE}, 1450)
    assert found == (
        Source("10.128.1.5", ("0.0.0.0/0",)),
        Source("fd73:7761:726d:1::5", ("::/0",)),
        Source("10.20.0.5", ("10.20.0.0/24",)),
        Source("fd20::5", ("fd20::/64",)),
    )


def test_a_container_without_ipv6_has_none_in_networks_either() -> None:
    found = sources(place(("blue", ("10.20.0.5", "fd20::5")), address6=""), {"blue": BLUE}, 1450)
    assert [source.address for source in found] == ["10.128.1.5", "10.20.0.5"]


@pytest.mark.parametrize(
    ("option", "inner", "home", "four", "six"),
    [
        (0, 1450, 0, 0, 0),
        (9000, 1450, 0, 0, 0),
        (1300, 1450, 0, 1300, 1300),
        (1000, 1450, 0, 1000, 1280),
        (0, 1230, 1230, 1230, 0),
    ],
)
def test_packets_are_as_large_as_the_network_and_the_link_allow(
    option: int, inner: int, home: int, four: int, six: int
) -> None:
    view = msgspec.structs.replace(BLUE, mtu=option)
    found = sources(place(("blue", ("10.20.0.5", "fd20::5"))), {"blue": view}, inner)
    assert [source.mtu for source in found] == [home, 0, four, six]


def test_a_link_too_small_for_ipv6_is_made_to_carry_it() -> None:
    assert [device_mtu(inner, ipv6=True) for inner in (1230, 1300)] == [1280, 1300]
    assert device_mtu(1230, ipv6=False) == 1230


def test_a_network_that_is_not_known_is_waited_for() -> None:
    with pytest.raises(Unavailable, match="network blue"):
        sources(place(("blue", ("10.20.0.5",))), {}, 1450)


def test_what_the_kernel_did_not_give_is_forgotten() -> None:
    wanted = place(("blue", ("10.20.0.5", "fd20::5")))
    given = (Source("10.128.1.5", ()), Source("10.20.0.5", ()))
    left = kept(wanted, given)
    assert (left.address6, left.networks) == ("", (("blue", ("10.20.0.5",)),))
