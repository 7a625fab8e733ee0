"""The overlay device of this node and the entries that lead to the other nodes.  All calls block briefly."""

from __future__ import annotations

import errno
import socket
from typing import TypeVar

from swarmd.model.addressing import block6_of
from swarmd.model.errors import Invalid
from swarmd.node.network import rtnl
from swarmd.node.network.core.addresses import block_of, gateway6_of, gateway_of, overlay_mac
from swarmd.node.network.core.peers import Hop, Peers, Prefix, nobody
from swarmd.node.network.core.sources import device_mtu
from swarmd.node.network.port import NodeView
from swarmd.node.network.ruleset import OVERLAY
from swarmd.node.network.settings import deaf, write_setting
from swarmd.node.network.wire import Message, Netlink

ENCAPSULATION = 50
"""Bytes VXLAN adds to a packet over IPv4."""
VNI = 21367
_SETTINGS = {f"net/ipv4/conf/{OVERLAY}/rp_filter": 2, f"net/ipv4/conf/{OVERLAY}/accept_local": 1}
"""What comes here is from other nodes' clients, and those may be anywhere, also where this node is."""

K = TypeVar("K")
V = TypeVar("V")


class Overlay:
    """``vx0``: a VXLAN device without learning; peers are written by difference."""

    def __init__(self, netlink: Netlink, port: int) -> None:
        self._netlink = netlink
        self._port = port
        self._index = 0
        self._written: Peers | None = None
        self._blocks: tuple[Prefix, ...] = ()
        self._own: tuple[str, ...] = ()

    def ensure(self, node: NodeView, inner: int, *, ipv6: bool) -> rtnl.Link:
        """The device as ``node`` needs it; one that fits already is kept, with all its entries.

        ``inner``: what fits into the underlay's packets.
        """
        wanted_mtu = device_mtu(inner, ipv6=ipv6)
        mac = overlay_mac(node.number)
        link = self.find(OVERLAY)
        if link and (link.mac, link.local, link.port, link.vni) != (mac, node.address, self._port, VNI):
            self.remove()
            link = None
        if link is None:
            self._netlink.must(
                rtnl.vxlan_add(OVERLAY, mac=mac, vni=VNI, port=self._port, local=node.address, mtu=wanted_mtu)
            )
            link = self._found(OVERLAY)
            if ipv6:
                self._netlink.must(rtnl.without_link_local(link.index))
        for name, value in _SETTINGS.items():
            write_setting(name, value)
        deaf(OVERLAY)
        self._own = (gateway_of(node), *([gateway6_of(node.number)] if ipv6 else []))
        self._netlink.must(
            rtnl.link_up(link.index, mtu=wanted_mtu),
            *(rtnl.address_add(link.index, one) for one in self._own),
        )
        self._answer_for(node, ipv6=ipv6)
        if link.index != self._index:
            self._index, self._written = link.index, None
        return self._found(OVERLAY)

    def _answer_for(self, node: NodeView, *, ipv6: bool) -> None:
        """Without this, packets for a container that is gone would leave through the default route."""
        network, _, size = block6_of(node.number).partition("/")
        blocks: tuple[Prefix, ...] = ((gateway_of(node), block_of(node).prefixlen),)
        blocks += ((network, int(size)),) if ipv6 else ()
        if blocks != self._blocks:
            self._drop_blocks()
        self._netlink.must(*(rtnl.unreachable_add(*block) for block in blocks))
        self._blocks = blocks

    def _drop_blocks(self) -> None:
        self._netlink.must(*(rtnl.unreachable_delete(*block) for block in self._blocks), allow=(errno.ESRCH,))
        self._blocks = ()

    def underlay_mtu(self, address: str) -> int:
        """The MTU of the interface that has ``address``.  Raises :class:`Invalid` when none has it."""
        for _, body in self._netlink.ask(rtnl.address_list()):
            index, found = rtnl.read_address(body)
            if found == address:
                links = [rtnl.read_link(body) for _, body in self._netlink.ask(rtnl.link_list())]
                return next(link.mtu for link in links if link.index == index)
        raise Invalid(
            f"this node's address {address} is on none of its interfaces; start the daemon with an address "
            "that is (see: ip address)"
        )

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
        link = self.find(OVERLAY)
        return link is not None and link.index == self._index

    def write(self, wanted: Peers) -> None:
        """Make the entries exactly ``wanted``.  Raises :class:`OSError`; then all are written next time."""
        before = self._written if self._written is not None else self._read()
        self._written = None
        self._netlink.must(*self._obsolete(before, wanted), allow=(errno.ENOENT, errno.ESRCH))
        self._netlink.must(*self._missing(before, wanted))
        self._written = wanted

    def devices(self) -> tuple[str, ...]:
        """The devices that are to be there now."""
        return (OVERLAY,) if self._index else ()

    def entries(self) -> list[Message]:
        """The messages that ask for everything that is to be there now."""
        own = [rtnl.address_add(self._index, one) for one in self._own]
        blocks = [rtnl.unreachable_add(*block) for block in self._blocks]
        there = self._written if self._written is not None else self._read()
        return [*own, *blocks, *self._missing(nobody(), there)]

    def settings(self) -> dict[str, int]:
        """The kernel's settings that must stay as they were set."""
        return _SETTINGS if self._index else {}

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
        """What an earlier daemon left."""
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
        for family in (socket.AF_INET, socket.AF_INET6):
            for _, body in self._netlink.ask(rtnl.route_list(family)):
                route = rtnl.read_route(body)
                key = (route.target, route.prefix) if route else ("", 0)
                if route and route.index == self._index:
                    found.routes[key] = Hop(route.via, route.mtu)
                elif route and not route.index and key not in self._blocks:
                    found.unreachable[key] = None
        return found

    def remove(self) -> None:
        """Delete the device; its entries and routes go with it."""
        left = self._read() if self._written is None else self._written
        self._netlink.must(
            rtnl.link_delete(OVERLAY),
            *(rtnl.unreachable_delete(*key) for key in left.unreachable),
            allow=(errno.ENODEV, errno.ESRCH),
        )
        self._drop_blocks()
        self._index, self._written = 0, nobody()

    def possible(self, name: str = "swarmprobe") -> bool:
        """Whether this kernel can make a VXLAN device at all."""
        trial: Message = rtnl.vxlan_add(
            name, mac=overlay_mac(1), vni=VNI + 1, port=self._port, local="127.0.0.1", mtu=1450
        )
        if self._netlink.each([trial])[0]:
            return False
        self._netlink.must(rtnl.link_delete(name), allow=(errno.ENODEV,))
        return True


def _lost(before: dict[K, V], after: dict[K, V]) -> list[tuple[K, V]]:
    return [(key, value) for key, value in before.items() if after.get(key) != value]
