"""The published ports of this node, as the shell keeps them: where they are open, who holds them, what the
kernel is to know of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Report
from swarmd.model.errors import Conflict
from swarmd.node.mesh.core import published
from swarmd.node.mesh.core.published import Addresses, Opened, PortKey
from swarmd.node.mesh.core.table import Changes, Tables
from swarmd.node.mesh.proxy import Proxy
from swarmd.node.network import hosts
from swarmd.node.network.ingress import Ingress, masked
from swarmd.node.network.measures import PortCount, Traffic
from swarmd.node.network.port import Certificate, HttpRoute, PublishedPort
from swarmd.node.router.router import AccessLog, Router

Counts = Sequence[Mapping[bytes, int]]


class Publishing:
    """Opens ports in the proxy and says what the kernel's part of them is.  ``sctp``: the kernel can."""

    def __init__(self, clock: Clock, report: Report, access_log: AccessLog | None = None) -> None:
        self._report = report
        self._proxy = Proxy(clock, report)
        self._router = Router(clock, report, access_log)
        self._ingress = Ingress()
        self._opened = Opened(())
        self._taken: frozenset[PortKey] = frozenset()
        self._addresses: Addresses = {}
        self.sctp = False

    async def open(
        self,
        ports: tuple[PublishedPort, ...],
        routes: tuple[HttpRoute, ...] = (),
        certificates: tuple[Certificate, ...] = (),
    ) -> None:
        """Hold exactly these ports, and those that routes share; the kernel hears of the first by
        :meth:`kernel`."""
        self._router.release(routes)
        self._addresses = await asyncio.to_thread(_addresses) if _particular(ports) else {}
        self._opened = published.opened(ports, self._addresses)
        taken = await self._proxy.update(self._opened.ports)
        for sentence in self._proxy.taken() if taken - self._taken else ():
            self._report("published port", Conflict(sentence))
        self._taken = taken
        await self._router.update(routes, certificates)

    def free(self) -> tuple[PublishedPort, ...]:
        """The ports that no other program of this node holds."""
        if not self._taken:
            return self._opened.ports
        return tuple(port for port in self._opened.ports if published.key_of(port) not in self._taken)

    def kernel(self) -> tuple[Tables, Changes]:
        """What the kernel is to know; may take milliseconds for thousands of ports."""
        free = self.free()
        return masked(free), self._ingress.changes(free)

    async def traffic(self, kernel: Counts) -> Traffic:
        """What came to each port; ``kernel``: maps from encoded keys to numbers of connections."""
        ports, proxy = self._opened.ports, self._proxy.served()
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
            for port in self._opened.ports
            if port.protocol == "sctp" and not self.sctp
        )
        return (*self._proxy.taken(), *self._router.problems(), *self._opened.problems, *impossible)

    def lost(self, dead: Collection[str]) -> None:
        """Reset the proxy's connections to these nodes."""
        self._proxy.drop(dead)

    def expire(self) -> None:
        self._proxy.expire()

    def forget(self) -> None:
        """What was written before is not there any more."""
        self._ingress.forget()
        self._opened, self._taken, self._addresses = Opened(()), frozenset(), {}

    async def close(self) -> None:
        await self._proxy.close()
        await self._router.close()


def _particular(ports: tuple[PublishedPort, ...]) -> bool:
    return any(port.host_ip for port in ports)


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
