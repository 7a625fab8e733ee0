"""Buckets and tables: from a snapshot to the elements of the kernel's maps."""

from __future__ import annotations

import struct
from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from swarmd.node.mesh.core import table
from swarmd.node.mesh.core.buckets import LARGE, SMALL, assign, size_for
from swarmd.node.network.port import Attachment, Backend, NodeView, PublishedPort

members = st.sets(st.text("abcdefgh", min_size=1, max_size=2), max_size=30)


@given(members, st.integers(1, 120))
def test_shares_differ_by_at_most_one_bucket(now: set[str], size: int) -> None:
    buckets = assign((), now, size)
    if not now:
        assert buckets == ()
        return
    counts = Counter(buckets)
    assert len(buckets) == size
    assert len(counts) == min(len(now), size)
    assert max(counts.values()) - min(counts.values()) <= 1


@given(members, members, st.integers(30, 120))
def test_no_fair_assignment_moves_fewer_buckets(before: set[str], now: set[str], size: int) -> None:
    old = assign((), before, size)
    new = assign(old, now, size)
    if not old or not new:
        return
    share, odd = divmod(size, len(now))
    held = Counter(bucket for bucket in old if bucket in now)
    best = sorted((held[member] for member in now), reverse=True)
    keepable = sum(min(count, share + (place < odd)) for place, count in enumerate(best))
    assert sum(a == b for a, b in zip(old, new, strict=True)) == keepable


@given(members)
def test_the_same_members_keep_every_bucket(now: set[str]) -> None:
    buckets = assign((), now, SMALL)
    assert assign(buckets, now, SMALL) == buckets


def test_many_backends_get_the_large_map() -> None:
    assert (size_for(20), size_for(21)) == (SMALL, LARGE)


def node(number: int, *, alive: bool = True) -> NodeView:
    return NodeView(f"n{number}", number, f"192.0.2.{number}", f"10.128.{number}.0/24", alive)


def backend(number: int, place: int = 5, port: int = 8000) -> Backend:
    return Backend(f"t{number}.{place}", f"10.128.{number}.{place}", port, f"n{number}")


def port(number: int, *backends: Backend, protocol: str = "tcp") -> PublishedPort:
    return msgspec.convert(
        {"service_id": "s", "service_name": "s", "protocol": protocol, "port": number, "backends": backends},
        PublishedPort,
        from_attributes=True,
    )


def test_other_nodes_have_a_zone_and_a_mark_for_each_role_and_we_have_none() -> None:
    built = table.node_tables([node(1), node(2)], "n1")["ip"]
    ingress, behind = struct.pack("=I", 0x010002), struct.pack("=I", 0x020002)
    assert built["node_by_mac"] == {bytes.fromhex("027700000002"): ingress}
    assert built["zone_by_mac"] == {bytes.fromhex("027700000002"): struct.pack("=H", 2)}
    assert built["vtep_by_mark"] == {ingress: bytes([10, 128, 2, 0])}
    assert built["node_by_prefix"] == {bytes([10, 128, 2, 0, 10, 128, 3, 0]): behind}
    assert len(built["pools"]) == len(built["nodes"]) == 2


def test_a_container_may_use_its_address_on_its_interface_and_be_called_on_published_ports() -> None:
    built = table.local_tables({"r5": Attachment("t", 1, "10.128.1.5", (("udp", 53),))})["ip"]
    address = bytes([10, 128, 1, 5])
    assert list(built["own"]) == [b"r5".ljust(16, b"\0") + address]
    assert list(built["hairpin"]) == [address + address]
    assert list(built["pub_local"]) == [address + b"\x11\0\0\0\x00\x35\0\0"]


elements = st.dictionaries(st.binary(max_size=2), st.none() | st.binary(max_size=1), max_size=8)


@given(elements, elements)
def test_removing_and_then_adding_the_difference_gives_the_new_set(
    before: table.Elements, after: table.Elements
) -> None:
    found = table.difference(before, after)
    result = {key: value for key, value in before.items() if key not in found.remove}
    assert not result.keys() & found.add.keys()
    assert result | found.add == after
    assert bool(found) == (before != after)


def test_addresses_that_stop_answering_udp_are_named_also_when_the_service_is_deleted() -> None:
    before = [port(53, backend(1), backend(2), protocol="udp"), port(80, backend(3))]
    after = [port(53, backend(1), protocol="udp")]
    assert table.abandoned_udp(before, after) == ("10.128.2.5",)
    assert table.abandoned_udp(before, []) == ("10.128.1.5", "10.128.2.5")


def test_a_node_is_newly_dead_once() -> None:
    alive, dead = node(2), node(2, alive=False)
    assert table.newly_dead([alive], [dead]) == (2,)
    assert table.newly_dead([alive], []) == (2,)
    assert table.newly_dead([], [dead]) == (2,)
    assert table.newly_dead([dead], [dead]) == ()
    assert table.newly_dead([dead], [alive]) == ()
    assert table.newly_dead([dead], []) == ()


def test_ipv6_says_the_same_with_the_addresses_of_its_family() -> None:
    built = table.node_tables([node(1), node(2)], "n1")["ip6"]
    ingress, behind = struct.pack("=I", 0x010002), struct.pack("=I", 0x020002)
    block = bytes.fromhex("fd737761726d0002 0000000000000000 fd737761726d0003 0000000000000000")
    assert built["node_by_mac"] == {bytes.fromhex("027700000002"): ingress}
    assert built["vtep_by_mark"] == {ingress: block[:16]}
    assert built["node_by_prefix"] == {block: behind}
    assert built["nodes"] == {}
    container = Attachment("t", 1, "10.128.1.5", (("udp", 53),), address6="fd73:7761:726d:1::5")
    own = table.local_tables({"r5": container})["ip6"]
    address = bytes.fromhex("fd737761726d0001 0000000000000005")
    assert list(own["own"]) == [b"r5".ljust(16, b"\0") + address]
    assert list(own["pub_local"]) == [address + b"\x11\0\0\0\x00\x35\0\0"]
    assert table.local_tables({"r5": Attachment("t", 1, "10.128.1.5")})["ip6"]["own"] == {}


@given(elements, elements, elements)
def test_two_differences_one_after_the_other_are_one(
    first: table.Elements, second: table.Elements, third: table.Elements
) -> None:
    both = table.difference(first, second).then(table.difference(second, third))
    result = {key: value for key, value in first.items() if key not in both.remove}
    assert all(first[key] == old for key, old in both.remove.items())
    assert not result.keys() & both.add.keys()
    assert result | both.add == third
