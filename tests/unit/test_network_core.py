"""The network's pure decisions: addresses, peers, who listens."""

from __future__ import annotations

from ipaddress import IPv4Network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.model.errors import Invalid
from swarmd.node.network.core.addresses import (
    address_at,
    block_of,
    container_mac,
    free_index,
    gateway6_of,
    gateway_of,
    index_of,
    overlay_mac,
)
from swarmd.node.network.core.carrying import CarrierPeer
from swarmd.node.network.core.peers import Hop, peers, secured, senders
from swarmd.node.network.core.procnet import listens
from swarmd.node.network.port import Endpoint, NetworkView, NodeView

BLOCK = IPv4Network("10.128.7.0/24")
SEVEN = NodeView(id="seven", number=7, address="192.0.2.7", block="10.128.7.0/24")


def test_macs_follow_from_numbers_and_addresses() -> None:
    assert overlay_mac(7).hex(":") == "02:77:00:00:00:07"
    assert container_mac("10.128.7.9").hex(":") == "02:42:0a:80:07:09"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"number": 0}, "number of node seven: 0 is not between 1 and 16383"),
        ({"number": 16384}, "number of node seven: 16384 is not between 1 and 16383"),
        ({"address": "host"}, "address of node seven: 'host' is not an IPv4 address"),
        ({"block": "10.128.7.1/24"}, "is not an IPv4 prefix such as"),
        ({"block": "10.128.7.0/31"}, "has no room for containers"),
    ],
)
def test_a_wrong_node_view_is_refused_with_the_field_and_value(
    changed: dict[str, object], sentence: str
) -> None:
    with pytest.raises(Invalid, match=sentence):
        block_of(msgspec.structs.replace(SEVEN, **changed))


@given(taken=st.sets(st.integers(1, 254)), after=st.integers(0, 254))
def test_a_free_address_is_the_next_one_nobody_has(taken: set[int], after: int) -> None:
    found = free_index(BLOCK, taken, after)
    if found is None:
        assert len(taken) == 254
        return
    assert 1 <= found <= 254
    assert found not in taken
    between = range(after + 1, found) if found > after else [*range(after + 1, 255), *range(1, found)]
    assert set(between) <= taken
    assert index_of(BLOCK, address_at(BLOCK, found)) == found


@pytest.mark.parametrize("address", ["10.128.7.0", "10.128.7.255", "10.128.8.1", "x"])
def test_an_address_no_container_may_have_is_refused(address: str) -> None:
    with pytest.raises(Invalid, match="container address"):
        index_of(BLOCK, address)


def test_every_other_node_has_one_entry_of_each_kind_even_when_dead() -> None:
    dead = NodeView(id="nine", number=9, address="192.0.2.9", block="10.128.9.0/24", alive=False)
    found = peers([SEVEN, dead], "seven")
    four, six = "10.128.9.0", "fd73:7761:726d:9::"
    assert found.neighbours == {four: overlay_mac(9), six: overlay_mac(9)}
    assert found.forwarding == {overlay_mac(9): "192.0.2.9"}
    assert found.routes == {(four, 24): Hop(four), (six, 64): Hop(six)}
    assert (gateway_of(dead), gateway6_of(9)) == (four, six)
    only = peers([SEVEN, dead], "seven", ipv6=False)
    assert (set(only.neighbours), set(only.routes)) == ({four}, {(four, 24)})


HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"


def line(local: str, state: str) -> str:
    return f"   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0\n"


@pytest.mark.parametrize(
    ("local", "state", "found"),
    [
        ("00000000:0050", "0A", True),
        ("0700800A:0050", "0A", True),
        ("0100007F:0050", "0A", False),
        ("00000000:0050", "01", False),
        ("00000000:0051", "0A", False),
        ("00000000000000000000000000000000:0050", "0A", True),
        ("00000000000000000000000001000000:0050", "0A", False),
    ],
    ids=["any", "own address", "loopback", "established", "other port", "any v6", "loopback v6"],
)
def test_only_a_listening_socket_that_others_reach_counts(local: str, state: str, found: bool) -> None:
    assert listens(HEADER + line(local, state), "tcp", 80) is found


def test_udp_counts_when_it_is_bound() -> None:
    assert listens(HEADER + line("00000000:0035", "07"), "udp", 53)
    assert not listens(HEADER + line("00000000:0035", "01"), "udp", 53)


@given(st.text(max_size=200))
def test_any_text_at_all_is_read_without_failing(text: str) -> None:
    assert listens(text, "tcp", 80) in (True, False)


def test_tasks_of_encrypted_networks_are_led_to_by_the_device_that_encrypts_and_by_no_other() -> None:
    nodes = [NodeView(f"n{n}", n, f"172.30.0.{n}", f"10.128.{n}.0/24") for n in (1, 2, 3)]
    networks = [
        NetworkView("safe", "safe", ("10.22.0.0/24", "fd22::/64"), encrypted=True),
        NetworkView("open", "open", ("10.23.0.0/24",)),
    ]
    endpoints = [
        Endpoint("t1", "t1", "s", 1, "n1", "safe", ("10.22.0.1", "fd22::1")),
        Endpoint("t2", "t2", "s", 2, "n2", "safe", ("10.22.0.2", "fd22::2")),
        Endpoint("t3", "t3", "s", 3, "n3", "open", ("10.23.0.3",)),
    ]
    plain = peers(nodes, "n1", networks, endpoints)
    entries, carried = secured(nodes, "n1", networks, endpoints)
    assert ("10.23.0.3", 32) in plain.routes
    assert not {("10.22.0.2", 32), ("fd22::2", 128)} & plain.routes.keys()
    assert {("10.22.0.0", 24), ("fd22::", 64)} <= plain.unreachable.keys()
    assert entries.routes.keys() == {("10.22.0.2", 32), ("fd22::2", 128)}
    assert entries.neighbours == {"10.128.2.0": overlay_mac(2), "fe80::2": overlay_mac(2)}
    assert carried == (CarrierPeer("n2", 2, "172.30.0.2"),)
    assert senders(entries) == {2: ("10.22.0.2", "fd22::2")}
    assert secured(nodes, "n1", networks, endpoints, ipv6=False)[0].routes.keys() == {("10.22.0.2", 32)}
