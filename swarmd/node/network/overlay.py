"""The overlay device of this node and the entries that lead to the other nodes.  All calls block briefly."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from typing import TypeVar

from swarmd.model.errors import Invalid
from swarmd.node.network import rtnl
from swarmd.node.network.core.addresses import block_of, gateway_of, overlay_mac
from swarmd.node.network.core.peers import NOBODY, Peers
from swarmd.node.network.port import NodeView
from swarmd.node.network.ruleset import OVERLAY
from swarmd.node.network.wire import Message, Netlink

ENCAPSULATION = 50
"""Bytes VXLAN adds to a packet over IPv4."""
VNI = 21367

K = TypeVar("K")
V = TypeVar("V")


class Overlay:
    """``vx0``: a VXLAN device without learning; peers are written by difference."""

    def __init__(self, netlink: Netlink, port: int) -> None:
        self._netlink = netlink
        self._port = port
        self._index = 0
        self._written: Peers | None = None
        self._block: tuple[str, int] | None = None
        self._own: tuple[str, ...] = ()

    def ensure(self, node: NodeView, mtu: int | None) -> rtnl.Link:
        """The device as ``node`` needs it; one that fits already is kept, with all its entries.

        ``mtu`` is the underlay's.  Raises :class:`Invalid` when no interface has the node's address.
        """
        wanted_mtu = (mtu or self.underlay_mtu(node.address)) - ENCAPSULATION
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
        for key in (
            "rp_filter",
            "accept_local",
        ):  # sources of other nodes' clients arrive here, ours included
            write_setting(f"net/ipv4/conf/{OVERLAY}/{key}", 2 if key == "rp_filter" else 1)
        self._own = (gateway_of(node),)
        self._netlink.must(
            rtnl.link_up(link.index, mtu=wanted_mtu),
            *(rtnl.address_add(link.index, one) for one in self._own),
        )
        self._answer_for(gateway_of(node), block_of(node).prefixlen)
        if link.index != self._index:
            self._index, self._written = link.index, None
        return self._found(OVERLAY)

    def _answer_for(self, block: str, prefix: int) -> None:
        """Without this, packets for a container that is gone would leave through the default route."""
        if self._block not in (None, (block, prefix)):
            self._drop_block()
        self._netlink.must(rtnl.unreachable_add(block, prefix))
        self._block = (block, prefix)

    def _drop_block(self) -> None:
        if self._block:
            self._netlink.must(rtnl.unreachable_delete(*self._block), allow=(errno.ESRCH,))
            self._block = None

    def underlay_mtu(self, address: str) -> int:
        """The MTU of the interface that has ``address``."""
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
        index = self._index
        gone = [rtnl.route_delete(*r, index, via=via) for r, via in _lost(before.routes, wanted.routes)]
        gone += [rtnl.neighbour_delete(index, a) for a, _ in _lost(before.neighbours, wanted.neighbours)]
        gone += [rtnl.forwarding_delete(index, m) for m, _ in _lost(before.forwarding, wanted.forwarding)]
        self._written = None
        self._netlink.must(*gone, allow=(errno.ENOENT, errno.ESRCH))
        self._netlink.must(*self._missing(before, wanted))
        self._written = wanted

    def devices(self) -> tuple[str, ...]:
        """The devices that are to be there now."""
        return (OVERLAY,) if self._index else ()

    def entries(self) -> list[Message]:
        """The messages that ask for everything that is to be there now."""
        own = [rtnl.address_add(self._index, one) for one in self._own]
        blocks = [rtnl.unreachable_add(*self._block)] if self._block else []
        return [*own, *blocks, *self._missing(NOBODY, self._written or NOBODY)]

    def settings(self) -> dict[str, int]:
        """The kernel's settings that must stay as they were set."""
        if not self._index:
            return {}
        return {f"net/ipv4/conf/{OVERLAY}/rp_filter": 2, f"net/ipv4/conf/{OVERLAY}/accept_local": 1}

    def _missing(self, before: Peers, wanted: Peers) -> list[Message]:
        index = self._index
        new = [rtnl.forwarding_add(index, *pair) for pair in _lost(wanted.forwarding, before.forwarding)]
        new += [rtnl.neighbour_add(index, *pair) for pair in _lost(wanted.neighbours, before.neighbours)]
        return new + [rtnl.route_add(*r, index, via=via) for r, via in _lost(wanted.routes, before.routes)]

    def _read(self) -> Peers:
        """What an earlier daemon left on the device."""
        found = Peers({}, {}, {})
        for bridge in (False, True):
            for _, body in self._netlink.ask(rtnl.neighbour_list(self._index, bridge=bridge)):
                index, entry = rtnl.read_neighbour(body) or (0, None)
                if entry is None or index != self._index:
                    continue
                if bridge:
                    found.forwarding[entry.mac] = entry.address
                else:
                    found.neighbours[entry.address] = entry.mac
        for _, body in self._netlink.ask(rtnl.route_list()):
            route = rtnl.read_route(body)
            if route and route[0] == self._index:
                found.routes[route[1], route[2]] = route[3]
        return found

    def remove(self) -> None:
        """Delete the device; its entries and routes go with it."""
        self._netlink.must(rtnl.link_delete(OVERLAY), allow=(errno.ENODEV,))
        self._drop_block()
        self._index, self._written = 0, NOBODY

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


def write_setting(name: str, value: int) -> bool:
    """Write /proc/sys/``name``; answers whether it has that value now."""
    path = Path("/proc/sys") / name
    with contextlib.suppress(OSError):
        path.write_text(f"{value}\n")
    try:
        return path.read_text().strip() == str(value)
    except OSError:
        return False
