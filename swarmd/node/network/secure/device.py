"""``sx0``, the device that routes of encrypted networks lead to.  All calls block briefly."""

from __future__ import annotations

import errno

from swarmd.node.network import rtnl
from swarmd.node.network.core.addresses import overlay_mac
from swarmd.node.network.core.peers import nobody
from swarmd.node.network.core.sources import device_mtu
from swarmd.node.network.device import Device
from swarmd.node.network.port import NodeView
from swarmd.node.network.secure import tap
from swarmd.node.network.settings import deaf, write_setting
from swarmd.node.network.wire import Message, Netlink


class SecureDevice(Device):
    """Made with the first encrypted network; without one there is none."""

    def __init__(self, netlink: Netlink) -> None:
        super().__init__(netlink, tap.DEVICE)

    def ensure(self, node: NodeView, inner: int, *, ipv6: bool) -> None:
        """The device as ``node`` needs it; one that fits already is kept, with all its entries."""
        tap.make()
        link = self._found(tap.DEVICE)
        if link.mac != overlay_mac(node.number):  # the kernel then forgets what led through it
            self._netlink.must(rtnl.link_mac(link.index, overlay_mac(node.number)))
            self._index = 0
        if ipv6:
            self._netlink.must(rtnl.without_link_local(link.index))
        write_setting(f"net/ipv4/conf/{tap.DEVICE}/rp_filter", 2)
        deaf(tap.DEVICE)
        self._netlink.must(rtnl.link_up(link.index, mtu=device_mtu(inner, ipv6=ipv6)))
        if link.index != self._index:
            self._index, self._written = link.index, None

    def devices(self) -> tuple[str, ...]:
        """The devices that are to be there now."""
        return (tap.DEVICE,) if self._index else ()

    def entries(self) -> list[Message]:
        """The messages that ask for everything that is to be there now."""
        there = self._written if self._written is not None else self._read()
        return self._missing(nobody(), there)

    def remove(self) -> None:
        """Delete it; its entries and routes go with it."""
        self._netlink.must(rtnl.link_delete(tap.DEVICE), allow=(errno.ENODEV,))
        self._index, self._written = 0, nobody()
