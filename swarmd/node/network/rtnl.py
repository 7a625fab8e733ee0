"""rtnetlink messages: links, addresses, routes, neighbours, forwarding entries.

Each function answers a :class:`Message` for :class:`~swarmd.node.network.wire.Netlink`; the readers at the
end turn replies into small structs.  Addresses are text of either family, MACs six bytes.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv6Address

from msgspec import Struct

from swarmd.node.network import wire
from swarmd.node.network.wire import F_CREATE, F_DUMP, F_EXCL, F_REPLACE, Message, attr, nest, text, u32

_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_NEWNEIGH, _DELNEIGH, _GETNEIGH = 28, 29, 30

_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGH = struct.Struct("=BxxxiHBB")

_IFF_UP = 1
_TABLE_MAIN = 254
_PROTOCOL = 83  # marks our routes, so that strays can be told from an administrator's
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_UNICAST, _UNREACHABLE = 1, 7
_ONLINK = 4
_PERMANENT = 0x80
_NTF_SELF = 2
_OPERATING = b"\6"  # RFC 2863
_NO_DETECTION = 2  # of duplicate addresses: nobody else gives them
_SPEC, _GENERATE = 26, 8
_NEVER = b"\1"
_LEAST_WANTED = 21367
"""Metric of our unreachable routes: whatever else leads to the same prefix is better."""

_VXLAN_ID, _VXLAN_LOCAL, _VXLAN_LEARNING, _VXLAN_PORT = 1, 4, 7, 15


class Link(Struct, frozen=True):
    """A network interface.  ``group`` is the interface group, ``local`` a VXLAN device's outer source;
    ``carries``: what is sent by it leaves it."""

    index: int
    name: str
    mtu: int
    mac: bytes
    group: int
    kind: str = ""
    local: str = ""
    vni: int = 0
    port: int = 0
    carries: bool = False


class Neighbour(Struct, frozen=True):
    """(address → MAC) of a neighbour, (MAC → outer address) of a bridge forwarding entry."""

    address: str
    mac: bytes


class Route(Struct, frozen=True):
    """A route of ours in the main table.  ``index`` 0: it says that ``target`` is unreachable."""

    target: str
    prefix: int
    index: int
    via: str = ""
    mtu: int = 0


def ip(address: str) -> bytes:
    """Four or sixteen bytes."""
    return IPv6Address(address).packed if ":" in address else socket.inet_aton(address)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _text(packed: bytes) -> str:
    return socket.inet_ntoa(packed) if len(packed) == 4 else str(IPv6Address(packed))


def length(address: str) -> int:
    """The prefix length of one address: 32 or 128."""
    return 128 if ":" in address else 32


def _link(index: int, *attributes: bytes, flags: int = 0, up: bool = False) -> bytes:
    state = _IFF_UP if up else 0
    return _IFINFO.pack(socket.AF_UNSPEC, 0, index, state, state) + b"".join(attributes)


def vxlan_add(name: str, *, mac: bytes, vni: int, port: int, local: str, mtu: int) -> Message:
    """A VXLAN device without learning; its peers are told by :func:`forwarding_add`."""
    data = nest(
        2,
        attr(_VXLAN_ID, u32(vni)),
        attr(_VXLAN_LOCAL, ip(local)),
        attr(_VXLAN_LEARNING, b"\0"),
        attr(_VXLAN_PORT, struct.pack("!H", port)),
    )
    info = nest(18, attr(1, text("vxlan")), data)
    body = _link(0, attr(3, text(name)), attr(1, mac), attr(4, u32(mtu)), info)
    return Message(_NEWLINK, F_CREATE | F_EXCL, body)


def veth_add(
    name: str, *, mac: bytes, peer: str, peer_mac: bytes, peer_namespace: int, mtu: int, group: int
) -> Message:
    """A veth pair whose other end, ``peer``, is made inside the namespace of the given descriptor."""
    other = _link(0, attr(3, text(peer)), attr(1, peer_mac), attr(4, u32(mtu)), attr(28, u32(peer_namespace)))
    info = nest(18, attr(1, text("veth")), nest(2, attr(1, other)))
    body = _link(0, attr(3, text(name)), attr(1, mac), attr(4, u32(mtu)), attr(27, u32(group)), info)
    return Message(_NEWLINK, F_CREATE | F_EXCL, body)


def link_mac(index: int, mac: bytes) -> Message:
    return Message(_NEWLINK, 0, _link(index, attr(1, mac)))


def link_up(index: int, *, mtu: int | None = None) -> Message:
    extra = (attr(4, u32(mtu)),) if mtu else ()
    return Message(_NEWLINK, 0, _link(index, *extra, up=True))


def link_delete(name: str) -> Message:
    return Message(_DELLINK, 0, _link(0, attr(3, text(name))))


def link_get(name: str) -> Message:
    return Message(_GETLINK, 0, _link(0, attr(3, text(name))))


def link_list() -> Message:
    return Message(_GETLINK, F_DUMP, _link(0))


def without_link_local(index: int) -> Message:
    """The device makes itself no fe80 address when it comes up, and so asks and tells nobody anything."""
    return Message(_NEWLINK, 0, _link(index, nest(_SPEC, nest(socket.AF_INET6, attr(_GENERATE, _NEVER)))))


def _address(address: str, index: int) -> bytes:
    flags = _NO_DETECTION if ":" in address else 0
    body = _IFADDR.pack(_family(address), length(address), flags, _SCOPE_UNIVERSE, index)
    return body + attr(2, ip(address)) + attr(1, ip(address))


def address_add(index: int, address: str) -> Message:
    return Message(_NEWADDR, F_CREATE | F_REPLACE, _address(address, index))


def address_delete(index: int, address: str) -> Message:
    return Message(_DELADDR, 0, _address(address, index))


def address_list() -> Message:
    return Message(_GETADDR, F_DUMP, _IFADDR.pack(socket.AF_INET, 0, 0, 0, 0))


def _route(target: str, prefix: int, index: int, via: str | None) -> bytes:
    scope, flags = (_SCOPE_UNIVERSE, _ONLINK) if via else (_SCOPE_LINK, 0)
    body = _ROUTE.pack(_family(target), prefix, 0, 0, _TABLE_MAIN, _PROTOCOL, scope, _UNICAST, flags)
    body += attr(1, ip(target)) if prefix else b""
    body += attr(5, ip(via)) if via else b""
    return body + attr(4, u32(index))


def route_add(
    target: str, prefix: int, index: int, *, via: str | None = None, source: str | None = None, mtu: int = 0
) -> Message:
    """A route out of device ``index``, through ``via`` (taken to be on that link) where given.

    ``source``: what our own packets that way are from.  ``mtu``: where it is less than the device's.
    """
    body = _route(target, prefix, index, via)
    body += attr(7, ip(source)) if source else b""
    body += nest(8, attr(2, u32(mtu))) if mtu else b""
    return Message(_NEWROUTE, F_CREATE | F_REPLACE, body)


def route_delete(target: str, prefix: int, index: int, *, via: str | None = None) -> Message:
    return Message(_DELROUTE, 0, _route(target, prefix, index, via))


def unreachable_add(target: str, prefix: int) -> Message:
    """Answer for addresses of ``target`` that have no better route: "host unreachable", at once."""
    body = _unreachable(target, prefix) + attr(6, u32(_LEAST_WANTED))
    return Message(_NEWROUTE, F_CREATE | F_REPLACE, body)


def unreachable_delete(target: str, prefix: int) -> Message:
    return Message(_DELROUTE, 0, _unreachable(target, prefix))


def _unreachable(target: str, prefix: int) -> bytes:
    head = (_family(target), prefix, 0, 0, _TABLE_MAIN, _PROTOCOL, _SCOPE_UNIVERSE, _UNREACHABLE, 0)
    return _ROUTE.pack(*head) + attr(1, ip(target))


def route_list(family: int = socket.AF_INET) -> Message:
    return Message(_GETROUTE, F_DUMP, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))


def neighbour_add(index: int, address: str, mac: bytes) -> Message:
    body = _NEIGH.pack(_family(address), index, _PERMANENT, 0, 0) + attr(1, ip(address)) + attr(2, mac)
    return Message(_NEWNEIGH, F_CREATE | F_REPLACE, body)


def neighbour_delete(index: int, address: str) -> Message:
    return Message(_DELNEIGH, 0, _NEIGH.pack(_family(address), index, 0, 0, 0) + attr(1, ip(address)))


def forwarding_add(index: int, mac: bytes, outer: str) -> Message:
    """Frames for ``mac`` leave the VXLAN device ``index`` towards ``outer``."""
    body = _NEIGH.pack(socket.AF_BRIDGE, index, _PERMANENT, _NTF_SELF, 0) + attr(2, mac) + attr(1, ip(outer))
    return Message(_NEWNEIGH, F_CREATE | F_REPLACE, body)


def forwarding_delete(index: int, mac: bytes) -> Message:
    return Message(_DELNEIGH, 0, _NEIGH.pack(socket.AF_BRIDGE, index, 0, _NTF_SELF, 0) + attr(2, mac))


def neighbour_list(index: int, family: int) -> Message:
    """Neighbours of one device; with AF_BRIDGE its forwarding entries."""
    if family == socket.AF_BRIDGE:
        # the old form of this dump takes a link header; the kernel tells them apart by size
        return Message(_GETNEIGH, F_DUMP, _IFINFO.pack(socket.AF_BRIDGE, 0, index, 0, 0))
    return Message(_GETNEIGH, F_DUMP, _NEIGH.pack(family, 0, 0, 0, 0))


def read_link(body: bytes) -> Link:
    _, _, index, _, _ = _IFINFO.unpack_from(body)
    found = wire.attrs(body[_IFINFO.size :])
    info = wire.attrs(found.get(18, b""))
    kind = info.get(1, b"").rstrip(b"\0").decode()
    data = wire.attrs(info.get(2, b"")) if kind == "vxlan" else {}
    return Link(
        index=index,
        name=found[3].rstrip(b"\0").decode(),
        mtu=_number(found.get(4)),
        mac=found.get(1, b""),
        group=_number(found.get(27)),
        kind=kind,
        local=socket.inet_ntoa(data[_VXLAN_LOCAL]) if _VXLAN_LOCAL in data else "",
        vni=_number(data.get(_VXLAN_ID)),
        port=struct.unpack("!H", data[_VXLAN_PORT])[0] if _VXLAN_PORT in data else 0,
        carries=found.get(16) == _OPERATING,
    )


def read_address(body: bytes) -> tuple[int, str]:
    """(interface index, address)."""
    _, _, _, _, index = _IFADDR.unpack_from(body)
    found = wire.attrs(body[_IFADDR.size :])
    return index, _text(found.get(2) or found[1])


def read_route(body: bytes) -> Route | None:
    """A route of ours to somewhere; of any other nothing."""
    _, prefix, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(body)
    found = wire.attrs(body[_ROUTE.size :])
    if protocol != _PROTOCOL or table != _TABLE_MAIN or 1 not in found:
        return None
    return Route(
        target=_text(found[1]),
        prefix=prefix,
        index=0 if kind == _UNREACHABLE else _number(found.get(4)),
        via=_text(found[5]) if 5 in found else "",
        mtu=_number(wire.attrs(found.get(8, b"")).get(2)),
    )


def read_neighbour(body: bytes) -> tuple[int, Neighbour] | None:
    """(interface index, entry) of a permanent neighbour or forwarding entry."""
    _, index, state, _, _ = _NEIGH.unpack_from(body)
    found = wire.attrs(body[_NEIGH.size :])
    if not state & _PERMANENT or len(found.get(1, b"")) not in (4, 16) or len(found.get(2, b"")) != 6:
        return None
    return index, Neighbour(address=_text(found[1]), mac=found[2])


def _number(value: bytes | None) -> int:
    return struct.unpack("=I", value[:4])[0] if value else 0
