"""The addresses of this machine, by interface, as the kernel lists them."""

from __future__ import annotations

import contextlib
import socket
import struct
from ipaddress import ip_address

from swarmd.node.network import wire
from swarmd.node.network.wire import F_DUMP, ROUTE, Message, Netlink

_GETADDR = 22
_IFADDR = struct.Struct("=BBBBI")
_ADDRESS, _LOCAL = 1, 2


def addresses() -> dict[str, tuple[str, ...]]:
    """Interface → its addresses of both families, as text.  Needs no privilege; blocks for the time the
    kernel takes.  Raises :class:`OSError` when there is no netlink."""
    names = dict(socket.if_nameindex())
    found: dict[str, tuple[str, ...]] = {}
    with contextlib.closing(Netlink(ROUTE)) as netlink:
        replies = netlink.ask(Message(_GETADDR, F_DUMP, _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)))
    for _, body in replies:
        index = _IFADDR.unpack_from(body)[4]
        parts = wire.attrs(body[_IFADDR.size :])
        packed = parts.get(_LOCAL) or parts.get(_ADDRESS)
        if packed and index in names:
            found[names[index]] = (*found.get(names[index], ()), str(ip_address(packed)))
    return found
