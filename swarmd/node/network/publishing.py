"""The published ports of this node, as the shell keeps them: where they are open, who holds them, what the
kernel is to know of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Report
from swarmd.model.errors import Conflict
from swarmd.node.mesh.core import published
from swarmd.node.mesh.core.opening import Opening
from swarmd.node.mesh.core.published import Addresses, PortKey
from swarmd.node.mesh.core.table import Changes, abandoned_udp
from swarmd.node.mesh.proxy import Proxy
from swarmd.node.network import hosts
from swarmd.node.network.ingress import Ingress
from swarmd.node.network.measures import PortCount, Traffic
from swarmd.node.network.port import Certificate, HttpRoute, NetworkState, PublishedPort
from swarmd.node.router.router import AccessLog, Router, reachable

Counts = Sequence[Mapping[bytes, int]]


class Publishing:
    """Opens ports in the proxy and says what the kernel's part of them is.  ``sctp``: the kernel can."""

    def __init__(self, clock: Clock, report: Report, access_log: AccessLog | None = None) -> None:
        self._report = report
        self._proxy = Proxy(clock, report)
        self._router = Router(clock, report, access_log)
        self._ingress = Ingress()
        self._opening = Opening()
        self._taken: frozenset[PortKey] = frozenset()
        self._unsaid: set[PortKey] = set()
        self._left: set[str] = set()
        self._routed: tuple[tuple[HttpRoute, ...], tuple[Certificate, ...], frozenset[str]] | None = None
        self._addresses: Addresses = {}
        self.sctp = False

    def tell(self, news: NetworkState) -> None:
        """What services publish from now on, all of it or what is different."""
        self._opening.tell(news)

    async def open(
        self,
        alive: frozenset[str],
        routes: tuple[HttpRoute, ...] = (),
        certificates: tuple[Certificate, ...] = (),
    ) -> None:
        """Hold exactly the ports that were told, and those that routes share, with backends on these nodes;
        the kernel hears of the first by :meth:`kernel`."""
        routed = (routes, certificates, alive)
        if routed != self._routed:
            self._router.release(routes)
        self._addresses = await asyncio.to_thread(_addresses) if self._opening.is_particular else {}
        changed = self._opening.advance(alive, self._addresses)
        self._unsaid |= changed
        taken = await self._proxy.update({key: self._opening.ports.get(key) for key in changed})
        self._unsaid |= taken ^ self._taken
        for sentence in self._proxy.taken() if taken - self._taken else ():
            self._report("published port", Conflict(sentence))
        self._taken = taken
        if routed != self._routed or self._router.is_waiting():
            self._routed = None
            await self._router.update(reachable(routes, alive), certificates)
            self._routed = routed

    def free(self) -> tuple[PublishedPort, ...]:
        """The ports that no other program of this node holds."""
        return tuple(port for key, port in self._opening.ports.items() if key not in self._taken)

    def kernel(self) -> Changes:
        """What is different for the kernel since it was last asked for."""
        keys, self._unsaid = self._unsaid, set()
        ports = {key: None if key in self._taken else self._opening.ports.get(key) for key in keys}
        self._left.update(abandoned_udp(self._ingress.served(keys), filter(None, ports.values())))
        return self._ingress.changes(ports)

    def abandoned(self) -> tuple[str, ...]:
        """Addresses that answered UDP and no longer do; each is told once."""
        left, self._left = self._left, set()
        return tuple(sorted(left))

    async def traffic(self, kernel: Counts) -> Traffic:
        """What came to each port; ``kernel``: maps from encoded keys to numbers of connections."""
        ports, proxy = tuple(self._opening.ports.values()), self._proxy.served()
        counts = await asyncio.to_thread(_counts, ports, proxy, kernel)
        return Traffic(counts, self._router.counts(), self._proxy.open_now(), reset=self._proxy.resets)

    async def stale(self) -> bool:
        """Whether :meth:`open` might do better now: a port was taken, or addresses have changed."""
        if self._taken or self._router.is_waiting():
            return True
        return bool(self._addresses) and await asyncio.to_thread(_addresses) != self._addresses

    def problems(self) -> tuple[str, ...]:
        impossible = (
            f"{published.name_of(published.key_of(port))} is not served by this node: SCTP is passed on by "
            "the kernel alone, which needs nftables and connection tracking of SCTP"
            for port in self._opening.ports.values()
            if port.protocol == "sctp" and not self.sctp
        )
        return (*self._proxy.taken(), *self._router.problems(), *self._opening.problems(), *impossible)

    def lost(self, dead: Collection[str]) -> None:
        """Reset the proxy's connections to these nodes."""
        if dead:
            self._proxy.drop(dead)

    def expire(self) -> None:
        self._proxy.expire()

    def forget(self) -> None:
        """What was written before is not there any more."""
        self._ingress.forget()
        self._opening, self._taken, self._addresses = Opening(), frozenset(), {}
        self._unsaid, self._left, self._routed = set(), set(), None

    async def close(self) -> None:
        await self._proxy.close()
        await self._router.close()


def _counts(
    ports: tuple[PublishedPort, ...], proxy: Mapping[PortKey, int], kernel: Counts
) -> tuple[PortCount, ...]:
    """Some microseconds for each port."""
    return tuple(
        PortCount(
            service_id=port.service_id,
            service_name=port.service_name,
            protocol=port.protocol,
            port=port.port,
            host_ip=port.host_ip,
            kernel=sum(found.get(published.head_of(port), 0) for found in kernel),
            proxy=proxy.get(published.key_of(port), 0),
        )
        for port in ports
    )


def _addresses() -> Addresses:
    try:
        return hosts.addresses()
    except OSError:
        return {}
