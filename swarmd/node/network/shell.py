"""The node's network: turns snapshots into kernel state and containers into reachable addresses.

Lives in the daemon's own network namespace.  One lock serialises every change; a keeper looks after what
others may have broken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery, Report, caught, whole
from swarmd.model.errors import Refused, SwarmError, Unavailable
from swarmd.node.dns.resolver import Resolver
from swarmd.node.mesh.core import table
from swarmd.node.network.containers import Containers
from swarmd.node.network.core.addresses import block_of
from swarmd.node.network.core.fence import Fence
from swarmd.node.network.core.networks import living
from swarmd.node.network.core.news import NOTHING, then
from swarmd.node.network.core.papers import Papers
from swarmd.node.network.datapath import Counted, Datapath
from swarmd.node.network.foreign import Foreign
from swarmd.node.network.keeper import Keeper
from swarmd.node.network.listening import listening
from swarmd.node.network.measures import Traffic
from swarmd.node.network.networks import Networks, Place, Plan
from swarmd.node.network.overlay import Overlay
from swarmd.node.network.port import (
    Attachment,
    Capabilities,
    NetworkState,
    NodeView,
    Transport,
    addresses_of,
)
from swarmd.node.network.probe import probe
from swarmd.node.network.publishing import Publishing
from swarmd.node.network.secure.link import SecureLink
from swarmd.node.network.wire import NETFILTER, ROUTE, Netlink
from swarmd.node.router.router import AccessLog

OVERLAY_PORT = 4789
CHECK_SECONDS = 3.0


class Network:
    """See :class:`~swarmd.node.network.port.NetworkPort` for what each method promises."""

    def __init__(
        self,
        node_id: str,
        clock: Clock,
        report: Report,
        *,
        overlay_port: int = OVERLAY_PORT,
        access_log: AccessLog | None = None,
    ) -> None:
        self._node_id = node_id
        self._clock = clock
        self._report = report
        self._overlay_port = overlay_port
        self._publishing = Publishing(clock, report, access_log)
        self._resolver = Resolver(clock, report)
        self._nursery = Nursery(report)
        self._lock = asyncio.Lock()
        self._stale = asyncio.Event()
        self._limits: tuple[str, ...] = ()
        self._sockets: tuple[Netlink, ...] = ()
        self._containers = Containers(None)
        self._networks = Networks(node_id, clock)
        self._fence = Fence()
        self._secure: SecureLink | None = None
        self._datapath: Datapath | None = None
        self._keeper: Keeper | None = None
        self._foreign: Foreign | None = None
        self._ready: bool
        self._version: int
        self._waiting: NetworkState | None
        self._told: NetworkState
        self._settled: bool
        self._masked: frozenset[str]
        self._alive: frozenset[str]
        self._nodes: tuple[NodeView, ...]
        self._trouble: str
        self._forget()

    async def start(self) -> Capabilities:
        try:
            self._sockets = (Netlink(ROUTE), Netlink(NETFILTER), Netlink(NETFILTER))
        except OSError:
            can = await probe(None, None, self._overlay_port)
            self._limits = can.missing
            return can
        route, netfilter, reading = self._sockets
        can = await probe(Overlay(route, self._overlay_port), netfilter, self._overlay_port)
        self._publishing.sctp = can.nft and can.sctp
        self._limits = can.missing
        self._containers = Containers(route)
        self._datapath = Datapath(route, netfilter, reading, self._overlay_port, can)
        self._secure = SecureLink(route, self._clock, self._nursery)
        overlays = (self._datapath.overlay, self._secure.device)
        self._keeper = Keeper(route, self._datapath, overlays, self._containers, self._clock, self._report)
        self._foreign = Foreign(netfilter, self._clock, self._report)
        self._nursery.start("foreign firewalls", self._foreign.watch())
        self._nursery.start("network keeper", self._keep())
        self._nursery.start("network mask", self._follow_mask())
        return can

    def identify(self, papers: Callable[[], Papers]) -> None:
        if self._secure:
            self._secure.identify(papers)

    async def configure(self, self_node: NodeView, *, mtu: int | None = None) -> None:
        block = block_of(self_node)
        async with self._lock:
            if self._datapath is not None:
                inner = await whole(self._datapath.configure(self_node, mtu))
                self._containers.use(block, inner, ipv6=self._datapath.ipv6)
                if self._secure is not None:
                    self._secure.become(self_node, inner, ipv6=self._datapath.ipv6)
            self._ready = True

    async def apply(self, state: NetworkState) -> None:
        if state.version < self._version:
            return
        self._version, self._settled = state.version, False
        self._waiting = state if self._waiting is None else then(self._waiting, state)
        async with self._lock:
            if self._waiting is not None or not self._settled:
                await whole(self._sync())

    def mask(self, node_ids: Iterable[str]) -> None:
        masked = frozenset(node_ids)
        if masked != self._masked:
            self._masked = masked
            self._stale.set()

    async def attach(
        self,
        task_id: str,
        pid: int,
        *,
        published: tuple[tuple[Transport, int], ...] = (),
        address: str | None = None,
        networks: tuple[tuple[str, tuple[str, ...]], ...] = (),
        names: tuple[str, ...] = (),
        servers: tuple[str, ...] = (),
    ) -> str:
        await self._networks.known(network_id for network_id, _ in networks)
        wanted = Attachment(task_id, pid, address or "", published, networks, names=names, servers=servers)
        async with self._lock:
            return await whole(self._attach(wanted))

    async def detach(self, task_id: str) -> None:
        async with self._lock:
            await whole(self._detach(task_id))

    def attachment(self, task_id: str) -> Attachment | None:
        return self._containers.get(task_id)

    def attached(self) -> tuple[Attachment, ...]:
        return self._containers.all()

    async def restore(self, attachments: Iterable[Attachment]) -> tuple[str, ...]:
        async with self._lock:
            return await whole(self._restore(tuple(attachments)))

    async def listening(self, pid: int, protocol: Transport, port: int) -> bool:
        return await listening(pid, protocol, port)

    async def connections(self, task_id: str) -> int | None:
        found = self._containers.get(task_id)
        if found is None:
            return 0
        return None if self._datapath is None else await self._datapath.connections(addresses_of(found))

    async def audit(self) -> tuple[str, ...]:
        if self._keeper is None or not self._ready:
            return self.problems()
        found = await self._keeper.audit(self._publishing.free, self._lock)
        async with self._lock:
            return (*self.problems(), *found, *await self._resolver.audit())

    def problems(self) -> tuple[str, ...]:
        return (
            *self._publishing.problems(),
            *self._networks.problems(),
            *(self._secure.problems() if self._secure else ()),
            *(self._foreign.sentences() if self._foreign else ()),
            *((self._trouble,) if self._trouble else ()),
        )

    async def traffic(self) -> Traffic:
        async with self._lock:
            counted = await self._datapath.counted() if self._datapath else Counted()
            found = await self._publishing.traffic(counted.ports)
            mended = self._keeper.mended if self._keeper else 0
            names = self._resolver.forwarded.counts()
            return replace(found, mended=mended, moved=counted.moved, names=names, cannot=counted.cannot)

    def limits(self) -> tuple[str, ...]:
        return self._limits

    def applied(self) -> tuple[int, bool]:
        return self._version, self._settled

    async def stop(self, *, clean: bool) -> None:
        await self._nursery.close()
        async with self._lock:
            await self._publishing.close()
            await self._resolver.stop()
            if self._secure:
                await self._secure.stop(clean=clean)
            if clean and self._datapath and self._sockets:
                await asyncio.to_thread(self._containers.clear)
                await self._datapath.remove()
            for netlink in self._sockets:
                netlink.close()
            self._sockets = ()
            self._datapath = self._keeper = self._secure = None
            self._forget()

    def _forget(self) -> None:
        """Nothing is known any more: the next swarm counts its versions from one."""
        self._ready = False
        self._version, self._waiting, self._told, self._settled = 0, None, NOTHING, True
        self._masked, self._alive = frozenset(), frozenset()
        self._publishing.forget()
        self._networks.forget()
        self._nodes = ()
        self._trouble = ""

    async def _attach(self, wanted: Attachment) -> str:
        made = await asyncio.to_thread(self._containers.attach, wanted, self._networks.views)
        await self._write_local()
        await self._resolver.open(wanted.task_id, wanted.pid, wanted.networks, wanted.names, wanted.servers)
        return made.address

    async def _detach(self, task_id: str) -> None:
        await self._resolver.close(task_id)
        found = await asyncio.to_thread(self._containers.detach, task_id)
        if found and self._datapath:
            await self._write_local()
            if found.networks or any(protocol == "udp" for protocol, _ in found.published):
                await self._datapath.forget_flows((), addresses_of(found))

    async def _restore(self, wanted: tuple[Attachment, ...]) -> tuple[str, ...]:
        lost = await asyncio.to_thread(self._containers.restore, wanted)
        await self._resolver.restore(each for each in wanted if each.task_id not in lost)
        await self._write_local()
        return lost

    async def _write_local(self) -> None:
        if self._datapath:
            places = self._containers.by_interface()
            local = table.joined(table.local_tables(places), self._networks.local(places.values()))
            try:
                await self._datapath.write(local)
            except OSError as error:
                raise Unavailable(f"the network rules cannot be written: {error.strerror}") from error

    async def _sync(self, *, afresh: bool = False) -> None:
        """Make kernel and proxy match what was told and the mask.  ``afresh``: also what did not change since
        the last time.  The lock is held."""
        if not self._ready:
            raise Refused("the network is not configured yet; the node must have joined a swarm first")
        self._learn()
        told = self._told
        try:
            await self._publishing.open(self._alive, told.routes, told.certificates)
            await self._write(told, afresh=afresh)
        except (OSError, Unavailable) as error:
            self._settled = False
            reason = error if isinstance(error, Unavailable) else error.strerror
            self._trouble = f"this node's network rules cannot be written and are tried again: {reason}"
            raise Unavailable(self._trouble) from error
        self._settled, self._trouble = self._waiting is None, ""

    def _learn(self) -> None:
        """Take in what waits, each part where it is kept."""
        before, news, self._waiting = self._told, self._waiting, None
        if news is not None:
            self._publishing.tell(news)
            self._told = replace(then(before, news), ports=())
        told, was = self._told, self._alive
        self._alive = living(told.nodes, self._masked)
        names = (told.networks, told.services, told.endpoints)
        if self._alive != was or names != (before.networks, before.services, before.endpoints):
            self._resolver.update(told, self._masked)

    async def _write(self, told: NetworkState, *, afresh: bool) -> None:
        for task_id in self._fence.outside(self._containers.all(), told):
            await self._detach(task_id)
        if self._datapath:
            place = Place(self._alive, self._datapath.inner, self._datapath.ipv6)
            plan: Plan | None = None
            if afresh or not self._networks.stands(told, place):
                plan = await asyncio.to_thread(self._networks.plan, told, place)
                await self._datapath.peer(plan.peers)
                if self._secure:
                    await self._secure.write(plan.secured, plan.carried, used=plan.encrypts)
            await self._datapath.write(plan.tables if plan else {}, self._publishing.kernel)
            left = self._publishing.abandoned()
            if plan:
                self._networks.made(plan)
                left += plan.abandoned
            dead = () if told.nodes is self._nodes else table.newly_dead(self._nodes, told.nodes)
            await self._datapath.forget_flows(dead, left)
            if not self._nodes:
                await self._datapath.forget_strangers(table.answering_udp(self._publishing.free()))
            if plan:
                await self._write_local()
        self._publishing.lost({node.id for node in told.nodes if not node.alive})
        self._nodes = told.nodes

    async def _follow_mask(self) -> None:
        while True:
            await self._stale.wait()
            self._stale.clear()
            await self._again("network mask")

    async def _keep(self) -> None:
        while True:
            await self._clock.sleep(CHECK_SECONDS)
            error = await caught(self._check())
            if error is not None:
                self._report("network keeper", error)

    async def _check(self) -> None:
        self._publishing.expire()
        if self._secure:
            self._secure.refresh()
        if not self._ready:
            return
        broken = await self._broken()
        if broken or await self._publishing.stale() or not self._settled:
            await self._again("network keeper", afresh=broken)

    async def _broken(self) -> bool:
        """Whether somebody removed our device or table; then they are set up again at once."""
        if self._datapath is None or self._keeper is None:
            return False
        try:
            async with self._lock:
                if not await self._datapath.intact():
                    await whole(self._datapath.rebuild())
                    await self._write_local()
                    return True
            await self._keeper.mend(self._lock)
            async with self._lock:
                return self._secure is not None and await self._secure.stale()
        except (OSError, SwarmError) as error:
            self._report("network keeper", error)
            return True

    async def _again(self, name: str, *, afresh: bool = False) -> None:
        async with self._lock:
            if not self._ready or (self._told is NOTHING and self._waiting is None):
                return
            error = await caught(whole(self._sync(afresh=afresh)))
            if error is not None:
                self._report(name, error)  # the keeper tries again
