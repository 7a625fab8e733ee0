"""The overlay device of this node and the entries that lead to the other nodes.  All calls block briefly."""

from __future__ import annotations

import errno

from swarmd.model.addressing import block6_of
from swarmd.model.errors import Invalid
from swarmd.node.network import rtnl
from swarmd.node.network.core.addresses import block_of, gateway6_of, gateway_of, overlay_mac
from swarmd.node.network.core.peers import Peers, Prefix, nobody
from swarmd.node.network.core.sources import device_mtu
from swarmd.node.network.device import Device
from swarmd.node.network.port import NodeView
from swarmd.node.network.ruleset import OVERLAY
from swarmd.node.network.settings import deaf, write_setting
from swarmd.node.network.wire import Message, Netlink

ENCAPSULATION = 50
"""Bytes VXLAN adds to a packet over IPv4."""
VNI = 21367
_SETTINGS = {f"net/ipv4/conf/{OVERLAY}/rp_filter": 2, f"net/ipv4/conf/{OVERLAY}/accept_local": 1}
"""What comes here is from other nodes' clients, and those may be anywhere, also where this node is."""


class Overlay(Device):
    """``vx0``: a VXLAN device without learning."""

    def __init__(self, netlink: Netlink, port: int) -> None:
        super().__init__(netlink, OVERLAY)
        self._port = port
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

    def _read(self) -> Peers:
        found = super()._read()
        for route in self._routes():
            key = (route.target, route.prefix)
            if not route.index and key not in self._blocks:
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
