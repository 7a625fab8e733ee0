"""Looks after the node's network as often as its size allows, and answers what is wrong with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Report, whole
from swarmd.model.errors import Conflict, Unavailable
from swarmd.node.network.containers import Containers
from swarmd.node.network.core.audit import few, unlistened
from swarmd.node.network.core.procnet import ports as ports_in
from swarmd.node.network.datapath import Datapath
from swarmd.node.network.keeping import Keeping
from swarmd.node.network.nfaudit import Doubts
from swarmd.node.network.overlay import Overlay
from swarmd.node.network.port import PublishedPort, Transport
from swarmd.node.network.secure.device import SecureDevice
from swarmd.node.network.wire import Netlink

_SHARE = 20
"""A look that finds nothing may take one part in so many of the time."""


class Keeper:
    """One for each datapath."""

    def __init__(
        self,
        netlink: Netlink,
        datapath: Datapath,
        overlays: tuple[Overlay, SecureDevice],
        containers: Containers,
        clock: Clock,
        report: Report,
    ) -> None:
        self._keeping = Keeping(netlink, overlays, containers)
        self._datapath = datapath
        self._clock = clock
        self._report = report
        self._due: dict[str, float] = {}
        self._said: frozenset[str] = frozenset()
        self.mended = 0

    async def audit(
        self, ports: Callable[[], Iterable[PublishedPort]], lock: asyncio.Lock
    ) -> tuple[str, ...]:
        """Everything that differs.  ``ports``: those that this node keeps open; ``lock``: the network's,
        which is not held while there is much to read.

        Raises :class:`Unavailable` when the kernel cannot be read.
        """
        try:
            doubts = await self._datapath.doubts()
            async with lock:
                return await self._audit(ports(), doubts)
        except OSError as error:
            raise Unavailable(f"the state of this node's network cannot be read: {error.strerror}") from error

    async def _audit(self, ports: Iterable[PublishedPort], doubts: Doubts) -> tuple[str, ...]:
        found = await asyncio.to_thread(self._keeping.look)
        rules = await self._datapath.audit(doubts)
        open_now = await asyncio.to_thread(_listening)
        served = {(port.protocol, port.port) for port in ports if port.backends}
        return (
            *found.sentences,
            *rules,
            *few(unlistened(served, open_now), "published ports"),
        )

    async def mend(self, lock: asyncio.Lock) -> None:
        """Make what others changed so again, and report it once.  ``lock``: as for :meth:`audit`."""
        found = (
            *await self._paced("entries", self._entries, lock),
            *await self._paced("rules", self._rules, lock),
        )
        for sentence in found:
            if sentence not in self._said:
                self.mended += 1
                self._report("network keeper", Conflict(f"{sentence}; this is mended, as far as it can be"))
        self._said = frozenset(found)

    async def _entries(self, lock: asyncio.Lock) -> list[str]:
        async with lock:
            return await whole(asyncio.to_thread(self._made_so))

    def _made_so(self) -> list[str]:
        found = self._keeping.look()
        if found.sentences:
            self._keeping.mend(found)
        return list(found.sentences)

    async def _rules(self, lock: asyncio.Lock) -> list[str]:
        async with lock:
            if not await self._datapath.touched():
                return []
        doubts = await self._datapath.doubts()
        async with lock:
            return await whole(self._datapath.mend(doubts))

    async def _paced(
        self, what: str, look: Callable[[asyncio.Lock], Awaitable[list[str]]], lock: asyncio.Lock
    ) -> list[str]:
        began = self._clock.monotonic()
        if began < self._due.get(what, 0.0):
            return []
        found = await look(lock)
        now = self._clock.monotonic()
        self._due[what] = now if found else now + (now - began) * _SHARE
        return found


def _listening() -> set[tuple[str, int]]:
    found: set[tuple[str, int]] = set()
    protocols: tuple[Transport, ...] = ("tcp", "udp")
    for protocol in protocols:
        for family in ("", "6"):
            with contextlib.suppress(FileNotFoundError):
                text = Path(f"/proc/self/net/{protocol}{family}").read_text()
                found.update((protocol, port) for port in ports_in(text, protocol))
    return found
