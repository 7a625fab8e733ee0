"""Addresses, routes, neighbours and forwarding entries: what the kernel has, and what it was asked for.

What was asked for is read from the very messages that ask for it, so that nothing can be forgotten, and
sending such a message again mends what is missing.  Calls block.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection, Iterable
from ipaddress import ip_address
from typing import NamedTuple

from swarmd.node.network import rtnl, wire
from swarmd.node.network.wire import F_DUMP, Message, Netlink

_ADDRESS, _ROUTE, _NEIGHBOUR = 20, 24, 28
_GET = 2
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_NDMSG = struct.Struct("=BxxxiHBB")
_OURS, _MAIN, _UNREACHABLE, _PERMANENT = 83, 254, 7, 0x80


class Entry(NamedTuple):
    """One of them.  ``device``: its index, 0 for routes that say "unreachable"; ``target``: an address, a
    prefix or a MAC; ``way``: where to, as far as the kind has that."""

    kind: str
    device: int
    target: str
    way: str = ""


class Link(NamedTuple):
    """An interface, as far as it can be told to change."""

    device: int
    is_up: bool


def wanted(messages: Iterable[Message]) -> dict[Entry, Message]:
    """What these messages, which add entries, ask for."""
    return {entry: message for message in messages if (entry := _entry(message[0], message[2]))}


def found(netlink: Netlink, devices: Collection[int]) -> dict[Entry, Message]:
    """The addresses, permanent neighbours and forwarding entries of these devices, and every route of ours,
    each with the message that removes it."""
    out: dict[Entry, Message] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        bodies = {
            _ADDRESS: _IFADDR.pack(family, 0, 0, 0, 0),
            _ROUTE: _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0),
            _NEIGHBOUR: _NDMSG.pack(family, 0, 0, 0, 0),
        }
        for kind, body in bodies.items():
            _list(netlink, kind, body, devices, out)
    for device in devices:
        # the old form of this dump takes a link header; the kernel tells them apart by size
        head = struct.pack("=BxHiII", socket.AF_BRIDGE, 0, device, 0, 0)
        _list(netlink, _NEIGHBOUR, head, devices, out)
    return out


def _list(
    netlink: Netlink, kind: int, body: bytes, devices: Collection[int], out: dict[Entry, Message]
) -> None:
    for answered, reply in netlink.ask(Message(kind + _GET, F_DUMP, body)):
        entry = _entry(answered, reply)
        if entry and (entry.device in devices or entry.kind == "route"):
            out[entry] = Message(kind + 1, 0, reply)


def _entry(kind: int, body: bytes) -> Entry | None:
    if kind == _ADDRESS:
        parts = wire.attrs(body[_IFADDR.size :])
        return Entry("address", _IFADDR.unpack_from(body)[4], _text(parts.get(2) or parts[1]))
    if kind == _ROUTE:
        return _route(body)
    return _neighbour(body) if kind == _NEIGHBOUR else None


def _route(body: bytes) -> Entry | None:
    family, size, _, _, table, protocol, _, what, _ = _RTMSG.unpack_from(body)
    if protocol != _OURS or table != _MAIN:
        return None
    parts = wire.attrs(body[_RTMSG.size :])
    any_address = bytes(4 if family == socket.AF_INET else 16)
    target = f"{_text(parts.get(1, any_address))}/{size}"
    if what == _UNREACHABLE:
        return Entry("route", 0, target, "unreachable")
    return Entry("route", _number(parts.get(4)), target, f"via {_text(parts[5])}" if 5 in parts else "")


def _neighbour(body: bytes) -> Entry | None:
    family, index, state, _, _ = _NDMSG.unpack_from(body)
    parts = wire.attrs(body[_NDMSG.size :])
    if not state & _PERMANENT or 1 not in parts or len(parts.get(2, b"")) != 6:
        return None
    mac = parts[2].hex(":")
    if family == socket.AF_BRIDGE:
        return Entry("forwarding entry", index, mac, _text(parts[1]))
    return Entry("neighbour", index, _text(parts[1]), mac)


def _text(packed: bytes) -> str:
    return str(ip_address(packed))  # pysyncobj puts a socket.inet_ntop in place that works on Windows only


def _number(value: bytes | None) -> int:
    return struct.unpack("=I", value[:4])[0] if value else 0


def links(netlink: Netlink) -> dict[str, Link]:
    """Every interface by its name."""
    bodies = [body for _, body in netlink.ask(rtnl.link_list())]
    found = ((rtnl.read_link(body), bool(_number(body[8:12]) & 1)) for body in bodies)
    return {link.name: Link(link.index, is_up) for link, is_up in found}
