"""Netlink messages byte by byte, and what is read back from replies.

That a kernel understands them is shown by tests/integration/test_network.py.
"""

from __future__ import annotations

import re
import socket
import struct
from ipaddress import ip_address

import pytest

from swarmd.node.network import ct, nfset, rtnl, ruleset, wire
from swarmd.node.network.core.family import FAMILIES, Family


def test_attributes_are_padded_and_nested_ones_are_flagged() -> None:
    assert wire.attr(3, b"vx0\0") == b"\x08\0\x03\0vx0\0"
    assert wire.attr(3, b"r1\0") == b"\x07\0\x03\0r1\0\0"
    assert wire.nest(18, wire.attr(1, b"veth\0")) == b"\x10\0\x12\x80\x09\0\x01\0veth\0\0\0\0"


def test_attributes_are_read_back() -> None:
    data = wire.attr(1, b"a") + wire.nest(2, wire.attr(7, b"bcde"))
    assert wire.attrs(data)[1] == b"a"
    assert wire.attrs(wire.attrs(data)[2]) == {7: b"bcde"}
    assert wire.attrs(b"\x01\0") == {}
    assert wire.attrs(b"\0\0\0\0") == {}


def test_messages_are_framed_and_read_back() -> None:
    packed = wire.pack(wire.Message(24, 5, b"12345"), 9)
    assert packed == struct.pack("=IHHII", 21, 24, 5, 9, 0) + b"12345\0\0\0"
    assert list(wire.unpack(packed + wire.pack(wire.Message(3, 0, b""), 10))) == [
        (24, 5, 9, b"12345"),
        (3, 0, 10, b""),
    ]


def test_a_route_through_the_overlay() -> None:
    kind, flags, body = rtnl.route_add("10.128.2.0", 24, 7, via="10.128.2.0")
    assert (kind, flags) == (24, 0x500)
    head = bytes([socket.AF_INET, 24, 0, 0, 254, 83, 0, 1]) + struct.pack("=I", 4)
    target, via = b"\x08\0\x01\0\x0a\x80\x02\0", b"\x08\0\x05\0\x0a\x80\x02\0"
    assert body == head + target + via + b"\x08\0\x04\0\x07\0\0\0"
    assert rtnl.read_route(body) == rtnl.Route("10.128.2.0", 24, 7, "10.128.2.0")


def test_a_route_of_ipv6_with_its_own_source_and_packet_size() -> None:
    _, _, body = rtnl.route_add("fd20::", 64, 7, via="fe80::1", source="fd20::5", mtu=1280)
    assert body[:2] == bytes([socket.AF_INET6, 64])
    source = struct.pack("=HH", 20, 7) + ip_address("fd20::5").packed
    assert source in body
    assert rtnl.read_route(body) == rtnl.Route("fd20::", 64, 7, "fe80::1", mtu=1280)


def test_an_unreachable_prefix_belongs_to_no_device_and_gives_way_to_any_other_route() -> None:
    _, _, body = rtnl.unreachable_add("10.20.0.0", 24)
    assert rtnl.read_route(body) == rtnl.Route("10.20.0.0", 24, 0)
    assert struct.pack("=HHI", 8, 6, 21367) in body


def test_an_ipv6_address_is_used_at_once() -> None:
    _, _, body = rtnl.address_add(7, "fd20::5")
    assert body[:3] == bytes([socket.AF_INET6, 128, 2])  # IFA_F_NODAD: nobody else gives addresses
    assert rtnl.read_address(body) == (7, "fd20::5")


def test_somebody_elses_route_is_not_ours() -> None:
    body = bytearray(rtnl.route_add("10.128.2.0", 24, 7)[2])
    body[5] = 4  # RTPROT_STATIC
    assert rtnl.read_route(bytes(body)) is None


def test_a_forwarding_entry() -> None:
    _, _, body = rtnl.forwarding_add(7, bytes.fromhex("027700000002"), "192.0.2.2")
    head = struct.pack("=BxxxiHBB", socket.AF_BRIDGE, 7, 0x80, 2, 0)
    assert body == head + b"\x0a\0\x02\0\x02\x77\0\0\0\x02\0\0" + b"\x08\0\x01\0\xc0\0\x02\x02"
    assert rtnl.read_neighbour(body) == (7, rtnl.Neighbour("192.0.2.2", bytes.fromhex("027700000002")))


def test_an_element_with_its_value() -> None:
    change = nfset.Change("ip", "m", flush=False, remove={}, add={b"KKKK": b"VV"})
    ((kind, flags, body),) = nfset.messages("t", change)
    assert (kind, flags) == (0x0A0C, 0x400)
    key = b"\x0c\0\x01\x80\x08\0\x01\0KKKK"
    value = b"\x0c\0\x02\x80\x06\0\x01\0VV\0\0"
    element = b"\x1c\0\x01\x80" + key + value
    names = b"\x06\0\x01\0t\0\0\0" + b"\x06\0\x02\0m\0\0\0"
    assert body == b"\x02\0\0\0" + names + b"\x20\0\x03\x80" + element


def test_an_interval_is_its_start_and_an_end_marker() -> None:
    change = nfset.Change("ip", "m", flush=False, remove={}, add={b"AAAABBBB": b"V"}, shape="interval")
    ((_, _, body),) = nfset.messages("t", change)
    start = wire.nest(1, wire.nest(1, wire.attr(1, b"AAAA")), wire.nest(2, wire.attr(1, b"V")))
    end = wire.nest(1, wire.nest(1, wire.attr(1, b"BBBB")), wire.attr(3, b"\0\0\0\x01"))
    assert body.endswith(wire.nest(3, start, end))


def test_a_change_flushes_then_removes_then_adds_in_messages_below_the_size_limit() -> None:
    many: dict[bytes, bytes | None] = {struct.pack("=III", n, n, n): b"12345678" for n in range(1500)}
    change = nfset.Change("ip", "m", flush=True, remove={b"gone": None}, add=many)
    made = nfset.messages("t", change)
    assert [kind & 0xFF for kind, _, _ in made] == [14, 14, 12, 12, 12]
    assert all(len(body) < 65536 for _, _, body in made)


def test_deleting_flows_without_a_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="every flow"):
        ct.delete_by_mark(wire.Netlink.__new__(wire.Netlink), 1, 0)


@pytest.mark.parametrize(("protocol", "live"), [(6, [1, 2, 3, 4, 5, 9]), (132, [2, 3, 4, 5, 6]), (17, [])])
def test_only_live_connections_hold_up_a_drain(protocol: int, live: list[int]) -> None:
    assert [state for state in range(10) if ct.Flow(protocol, state, b"").matters()] == live


def test_the_marker_changes_with_everything_the_ruleset_depends_on() -> None:
    variants = [
        ruleset.base((family,), ruleset.Options(port, "vx0", keep, generation))
        for family in FAMILIES
        for port in (4789, 4790)
        for keep in (True, False)
        for generation in (1, 2)
    ]
    markers = [name for _, found in variants for name in found.values()]
    assert len(set(markers)) == 8 + 4  # IPv6's say nothing of the overlay's port
    assert all(f"set {name} " in text for (text, _), name in zip(variants, markers, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_for_new_connections_alone_hangs_on_no_hook_that_every_packet_passes(family: Family) -> None:
    text, _ = ruleset.base((family,), ruleset.Options(4789, "vx0", keep_source=True, generation=7))
    hooks = re.findall(r"type filter hook (\w+)", text)
    assert sorted(hooks) == ["forward", *(["output"] if family == "ip" else []), "prerouting", "prerouting"]
    assert "iif 7 goto c_raw_node" in text


def test_an_ipv6_interval_and_its_table_are_said_in_sixteen_bytes_and_the_family() -> None:
    change = nfset.Change(
        "ip6", "m", flush=False, remove={}, add={b"A" * 16 + b"B" * 16: None}, shape="interval"
    )
    ((_, _, body),) = nfset.messages("t", change)
    assert body[0] == socket.AF_INET6
    start = wire.nest(1, wire.nest(1, wire.attr(1, b"A" * 16)))
    end = wire.nest(1, wire.nest(1, wire.attr(1, b"B" * 16)), wire.attr(3, b"\0\0\0\x01"))
    assert body.endswith(wire.nest(3, start, end))


def test_a_range_of_several_fields_is_one_element_with_its_last_key() -> None:
    change = nfset.Change(
        "ip", "m", flush=False, remove={}, add={b"AAAABBBB" + b"AAAACCCC": None}, shape="range"
    )
    ((_, _, body),) = nfset.messages("t", change)
    element = wire.nest(1, wire.nest(1, wire.attr(1, b"AAAABBBB")), wire.nest(10, wire.attr(1, b"AAAACCCC")))
    assert body.endswith(wire.nest(3, element))
