"""Encrypted networks on this node: the device, the entries that lead to it, and the process behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery
from swarmd.node.network.core.carrying import PORT, CarrierPeer, Orders
from swarmd.node.network.core.papers import Papers
from swarmd.node.network.core.peers import Peers, senders
from swarmd.node.network.port import NodeView
from swarmd.node.network.secure.device import SecureDevice
from swarmd.node.network.secure.keeper import CarrierKeeper
from swarmd.node.network.wire import Netlink


class SecureLink:
    """Nothing of it is there until this node has a task in an encrypted network."""

    def __init__(self, netlink: Netlink, clock: Clock, nursery: Nursery) -> None:
        self.device = SecureDevice(netlink)
        self._keeper = CarrierKeeper(clock, nursery)
        self._papers: Callable[[], Papers] | None = None
        self._node: NodeView | None = None
        self._inner, self._ipv6 = 0, False
        self._peers: tuple[CarrierPeer, ...] = ()
        self._sources: dict[int, tuple[str, ...]] = {}
        self._used = False
        self._trouble = ""

    def identify(self, papers: Callable[[], Papers]) -> None:
        """``papers`` answers for this moment: certificates are renewed."""
        self._papers = papers

    def become(self, node: NodeView, inner: int, *, ipv6: bool) -> None:
        """``inner``: what fits into the underlay's packets, so that a container sees one size."""
        self._node, self._inner, self._ipv6 = node, inner, ipv6
        self.refresh()

    async def write(self, entries: Peers, peers: tuple[CarrierPeer, ...], *, used: bool) -> None:
        """Lead there and carry to exactly these.  ``used``: this node has an encrypted network.

        Where the kernel has no such devices that is a problem to be told; nothing goes out in the clear.
        """
        if self._node is None or not (used or self._used):
            return
        self._used, self._peers, self._sources = used, peers, senders(entries)
        try:
            await asyncio.to_thread(self.device.ensure, self._node, self._inner, ipv6=self._ipv6)
            await asyncio.to_thread(self.device.write, entries)
            self._trouble = ""
        except OSError as error:
            self._trouble = (
                "encrypted networks do not reach other nodes from this one: their device cannot be set up "
                f"({error.strerror}; the module tun must be there)"
            )
        self.refresh()

    def refresh(self) -> None:
        """Tell the process of a new certificate, if there is one."""
        if self._node is None or self._papers is None or not self._used or self._trouble:
            return
        node, papers = self._node, self._papers()
        place = (node.id, node.number, node.address, PORT)
        self._keeper.order(Orders(*place, papers, self._peers, self._sources))

    async def stale(self) -> bool:
        """Whether :meth:`write` might do better now: the device is not there, or could not be made."""
        if not self._used:
            return False
        return bool(self._trouble) or not await asyncio.to_thread(self.device.intact)

    def problems(self) -> tuple[str, ...]:
        trouble = (self._trouble,) if self._trouble else ()
        return (*trouble, *self._keeper.problems())

    async def stop(self, *, clean: bool) -> None:
        """Carry no more; ``clean`` also takes the device away."""
        await self._keeper.stop()
        if clean:
            await asyncio.to_thread(self.device.remove)
        self._used, self._peers = False, ()
