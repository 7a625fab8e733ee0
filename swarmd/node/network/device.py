"""A device of ours and the entries that lead through it to other nodes.  All calls block briefly."""

from __future__ import annotations

import errno
import socket
from typing import TypeVar

from swarmd.node.network import rtnl
from swarmd.node.network.core.peers import Hop, Peers, nobody
from swarmd.node.network.wire import Message, Netlink

K = TypeVar("K")
V = TypeVar("V")


class Device:
    """Neighbours, forwarding and routes of one device, written by difference."""

    def __init__(self, netlink: Netlink, name: str) -> None:
        self._netlink = netlink
        self._name = name
        self._index = 0
        self._written: Peers | None = None

    def find(self, name: str) -> rtnl.Link | None:
        """The link of this name, if it exists."""
        try:
            replies = self._netlink.ask(rtnl.link_get(name))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return rtnl.read_link(replies[0][1])

    def _found(self, name: str) -> rtnl.Link:
        link = self.find(name)
        if link is None:
            raise OSError(errno.ENODEV, f"the interface {name} was removed while it was set up")
        return link

    def intact(self) -> bool:
        """Whether the device is still the one that was set up."""
        link = self.find(self._name)
        return link is not None and link.index == self._index

    def write(self, wanted: Peers) -> None:
        """Make the entries exactly ``wanted``.  Raises :class:`OSError`; then all are written next time."""
        before = self._written if self._written is not None else self._read()
        self._written = None
        self._netlink.must(*self._obsolete(before, wanted), allow=(errno.ENOENT, errno.ESRCH))
        self._netlink.must(*self._missing(before, wanted))
        self._written = wanted

    def _obsolete(self, before: Peers, wanted: Peers) -> list[Message]:
        index = self._index
        routes = ((key, hop) for key, hop in before.routes.items() if key not in wanted.routes)
        return [
            *(rtnl.route_delete(*key, index, via=hop.via) for key, hop in routes),
            *(rtnl.unreachable_delete(*key) for key in before.unreachable if key not in wanted.unreachable),
            *(rtnl.neighbour_delete(index, key) for key, _ in _lost(before.neighbours, wanted.neighbours)),
            *(rtnl.forwarding_delete(index, key) for key, _ in _lost(before.forwarding, wanted.forwarding)),
        ]

    def _missing(self, before: Peers, wanted: Peers) -> list[Message]:
        index = self._index
        routes = _lost(wanted.routes, before.routes)
        return [
            *(rtnl.forwarding_add(index, *pair) for pair in _lost(wanted.forwarding, before.forwarding)),
            *(rtnl.neighbour_add(index, *pair) for pair in _lost(wanted.neighbours, before.neighbours)),
            *(rtnl.unreachable_add(*key) for key in wanted.unreachable if key not in before.unreachable),
            *(rtnl.route_add(*key, index, via=hop.via, mtu=hop.mtu) for key, hop in routes),
        ]

    def _read(self) -> Peers:
        """What an earlier daemon left of neighbours, forwarding and routes."""
        found = nobody()
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_BRIDGE):
            for _, body in self._netlink.ask(rtnl.neighbour_list(self._index, family)):
                index, entry = rtnl.read_neighbour(body) or (0, None)
                if entry is None or index != self._index:
                    continue
                if family == socket.AF_BRIDGE:
                    found.forwarding[entry.mac] = entry.address
                else:
                    found.neighbours[entry.address] = entry.mac
        for route in self._routes():
            if route.index == self._index:
                found.routes[route.target, route.prefix] = Hop(route.via, route.mtu)
        return found

    def _routes(self) -> list[rtnl.Route]:
        """All of ours."""
        return [
            route
            for family in (socket.AF_INET, socket.AF_INET6)
            for _, body in self._netlink.ask(rtnl.route_list(family))
            if (route := rtnl.read_route(body))
        ]


def _lost(before: dict[K, V], after: dict[K, V]) -> list[tuple[K, V]]:
    return [(key, value) for key, value in before.items() if after.get(key) != value]
