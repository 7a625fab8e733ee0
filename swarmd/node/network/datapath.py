"""What the node's kernel does with the swarm's traffic: base ruleset, sets and peers, kept as wanted.

The caller serialises; everything here may be repeated at will.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Collection, Iterable, Mapping

from msgspec import Struct

from swarmd.model.addressing import POOL, POOL6
from swarmd.model.errors import Unavailable
from swarmd.node.mesh.core.table import Changes
from swarmd.node.mesh.core.table import Tables as Wanted
from swarmd.node.network import ct, nfread, nfset, ruleset
from swarmd.node.network.core.addresses import BACKEND_IS, INGRESS_IS
from swarmd.node.network.core.family import IP, IP6, Family
from swarmd.node.network.core.peers import Peers
from swarmd.node.network.nfaudit import Doubts, RuleAudit
from swarmd.node.network.overlay import ENCAPSULATION, Overlay
from swarmd.node.network.port import Capabilities, NodeView
from swarmd.node.network.tables import Tables
from swarmd.node.network.wire import Netlink

_TRIES = 3


class Counted(Struct, frozen=True):
    """Connections by the keys of published ports, one map for each set; UDP flows that were ended.

    ``cannot``: why the kernel does not tell, if so.
    """

    ports: tuple[Mapping[bytes, int], ...] = ()
    moved: int = 0
    cannot: str = ""


class Datapath:
    """Overlay device and nftables tables of this node."""

    def __init__(
        self, route: Netlink, netfilter: Netlink, reading: Netlink, port: int, can: Capabilities
    ) -> None:
        self.overlay = Overlay(route, port)
        self._netfilter = netfilter
        self._tables = Tables(netfilter)
        self._port = port
        self._can = can
        self._node: NodeView | None = None
        self._mtu: int | None = None
        self.ipv6 = can.ipv6
        self.families: tuple[Family, ...] = (IP, IP6) if can.ipv6 else (IP,)
        self._markers: Mapping[Family, str] = {}
        self._text = ""
        self._audit = RuleAudit(netfilter, reading, self._tables)
        self.inner = 0
        self._moved = 0

    async def configure(self, node: NodeView, mtu: int | None) -> int:
        """Become ``node``; answers what fits into the underlay's packets (bytes).  A ruleset that fits
        already is left alone, so that a restarted daemon interrupts nothing.

        Raises :class:`Invalid`, :class:`Unavailable`.
        """
        self._node, self._mtu = node, mtu
        try:
            return await self._configure(node, mtu)
        except OSError as error:
            raise Unavailable(f"the overlay network cannot be set up: {error.strerror}") from error

    async def _configure(self, node: NodeView, mtu: int | None) -> int:
        if mtu is None:
            outer = await asyncio.to_thread(self.overlay.underlay_mtu, node.address)
        else:
            outer = mtu
        inner, generation = outer, 0
        if self._can.vxlan:
            inner = outer - ENCAPSULATION
            link = await asyncio.to_thread(self.overlay.ensure, node, inner, ipv6=self._can.ipv6)
            generation = link.index
        self.inner = inner
        if self._can.nft:
            await self._load_base(node.address, generation)
        return inner

    async def _load_base(self, address: str, generation: int) -> None:
        options = ruleset.Options(
            port=self._port,
            device=ruleset.OVERLAY if self._can.vxlan else "lo",
            keep_source=self._can.keep_source,
            generation=generation,
            local=address,
        )
        self._text, self._markers = ruleset.base(self.families, options)
        if await asyncio.to_thread(self._loaded):
            await asyncio.to_thread(self._audit.begin, self.families)
        else:
            await self._load()

    async def _load(self) -> None:
        await ruleset.load(self._text)
        self._tables.forget()
        await asyncio.to_thread(self._audit.begin, self.families)

    def _loaded(self) -> bool:
        """Whether the tables of all families are there, as this version of the rules has them."""
        return bool(self._markers) and all(
            nfset.exists(self._netfilter, family, ruleset.TABLE, marker)
            for family, marker in self._markers.items()
        )

    async def intact(self) -> bool:
        """Whether device and tables are still ours (a foreign ``nft flush ruleset`` takes the tables)."""
        if self._can.vxlan and not await asyncio.to_thread(self.overlay.intact):
            return False
        return not self._can.nft or await asyncio.to_thread(self._loaded)

    async def doubts(self) -> Doubts:
        """What of the sets seems to differ from what was written.  The only one that others may be called
        beside: it takes seconds with hundreds of thousands of elements."""
        return await asyncio.to_thread(self._audit.doubts) if self._can.nft and self._text else {}

    async def audit(self, doubts: Doubts) -> list[str]:
        """A sentence for each difference between our tables and what was written into them."""
        return await asyncio.to_thread(self._differences, doubts) if self._can.nft and self._text else []

    def _differences(self, doubts: Doubts) -> list[str]:
        if not self._loaded():
            return [f"the nftables tables {ruleset.TABLE} of this node are not there"]
        return [*self._audit.bent(), *self._audit.differing(doubts)]

    async def touched(self) -> bool:
        """Whether somebody has changed the ruleset, so that :meth:`doubts` may find something to mend."""
        return self._can.nft and bool(self._text) and await asyncio.to_thread(self._audit.touched)

    async def mend(self, doubts: Doubts) -> list[str]:
        """As :meth:`audit`, and makes it so again; to be called after :meth:`touched`.

        Raises :class:`Unavailable` or :class:`OSError` when that cannot be done now.
        """
        found = await asyncio.to_thread(self._audit.bent)
        if found:
            await self._load()
            await self.write({})
            return found
        found = await asyncio.to_thread(self._audit.differing, doubts, adopt=True)
        await self.write({})
        self._audit.settle()
        return found

    async def counted(self) -> Counted:
        """What came through the kernel."""
        if not self._can.nft:
            return Counted(moved=self._moved)
        try:
            return Counted(tuple(await asyncio.to_thread(self._counts)), self._moved)
        except OSError as error:
            why = f"the kernel's counts of this node cannot be read: {error.strerror}"
            return Counted(moved=self._moved, cannot=why)

    def _counts(self) -> list[Mapping[bytes, int]]:
        """What the kernel lists while somebody changes its rules may lack elements; a port that was missing
        once would seem to have had all its connections anew."""
        for _ in range(_TRIES):
            before = nfread.generation(self._netfilter)
            found: list[Mapping[bytes, int]] = [
                nfread.counts(self._netfilter, family, ruleset.TABLE, name)
                for family in self.families
                for name in ("counted", "counted_at")
            ]
            if nfread.generation(self._netfilter) == before:
                return found
        raise OSError(errno.EAGAIN, "others keep changing its rules")

    async def rebuild(self) -> None:
        """Set device and tables up again; the next :meth:`write` fills them."""
        if self._node is not None:
            await self.configure(self._node, self._mtu)

    async def peer(self, wanted: Peers) -> None:
        """Reach exactly these nodes."""
        if self._can.vxlan:
            await asyncio.to_thread(self.overlay.write, wanted)

    async def write(self, wanted: Wanted, changes: Callable[[], Changes] = dict) -> None:
        """Fill these sets and change those, of the families that this machine has; when a table has vanished,
        load the rules again first.  ``changes`` is called once, in a worker thread."""
        if not self._can.nft:
            return
        try:
            await asyncio.to_thread(self._write, wanted, changes)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            self._tables.forget()
            await self.rebuild()
            await asyncio.to_thread(self._tables.write)

    def _write(self, wanted: Wanted, changes: Callable[[], Changes]) -> None:
        found = changes()
        for family in self.families:
            self._tables.want(family, wanted.get(family, {}))
            self._tables.change(family, found.get(family, {}))
        self._tables.write()

    async def forget_flows(self, dead: Iterable[int], udp: Iterable[str]) -> None:
        """Delete flows to and through the nodes with these numbers, and UDP flows to these addresses."""
        if not self._can.conntrack:
            return
        for number in dead:
            for role in (BACKEND_IS, INGRESS_IS):
                await asyncio.to_thread(ct.delete_by_mark, self._netfilter, role | number)
        if addresses := tuple(udp):
            self._moved += await asyncio.to_thread(ct.delete_udp_to, self._netfilter, addresses)

    async def forget_strangers(self, answering: Collection[str]) -> None:
        """Delete UDP flows to containers other than these: what left while no daemon ran."""
        if self._can.conntrack:
            pools = (POOL, POOL6)
            self._moved += await asyncio.to_thread(ct.delete_udp_except, self._netfilter, answering, pools)

    async def connections(self, addresses: Collection[str]) -> int | None:
        """How many connections to a container with these addresses are open; None: that cannot be told."""
        if not self._can.conntrack:
            return None
        try:
            return await asyncio.to_thread(ct.connections_to, self._netfilter, addresses)
        except OSError as error:
            raise Unavailable(f"the kernel's connections cannot be read: {error.strerror}") from error

    async def remove(self) -> None:
        """Take device, routes and tables away."""
        if self._can.nft:
            await ruleset.remove(self.families)
        if self._can.vxlan:
            await asyncio.to_thread(self.overlay.remove)
        self._tables.forget()
