"""Service discovery: every container in a network of the swarm asks 127.0.0.11 and is answered here.

The sockets are opened inside the containers' namespaces and served by the daemon's loop; which socket a
question comes through says who asks.  What no network of the container knows is asked of its name servers:
its own (from inside its namespace, where their addresses mean what the container means), else the node's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable

from msgspec import Struct

from swarmd.kit.clock import Clock
from swarmd.kit.ids import random_seed
from swarmd.kit.supervise import Nursery, Report
from swarmd.model.errors import SwarmError, Unavailable
from swarmd.node.describe import resolver_settings
from swarmd.node.dns.core import answer, outside
from swarmd.node.dns.core.wire import Query
from swarmd.node.dns.core.zone import Zone, zones
from swarmd.node.dns.door import Door, Send
from swarmd.node.dns.sockets import mended, open_for
from swarmd.node.dns.upstream import Asker, Upstream
from swarmd.node.network.port import Attachment, NetworkState
from swarmd.telemetry.tally import Tally

Networks = tuple[tuple[str, tuple[str, ...]], ...]

_MOST_OPEN = 256
"""Questions of one container that may wait for somebody outside; each has a socket."""

_MOST_OPEN_IN_ALL = 2048
_SETTINGS_SECONDS = 2.0


class _Place(Struct, frozen=True):
    """A container, its addresses by network in order of attachment, its names, its own name servers."""

    pid: int
    networks: Networks
    names: tuple[str, ...]
    servers: tuple[str, ...]


class Resolver:
    """Calls for one container are serialised by the caller.

    ``forwarded`` counts names of elsewhere by what came of them: answered, failed (no server did), or refused
    (too many at once).
    """

    def __init__(
        self, clock: Clock, report: Report, *, settings: Callable[[], str] = resolver_settings
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._report = report
        self._nursery = Nursery(report)
        self._upstream = Upstream(clock)
        self._zones: dict[str, Zone] = {}
        self._places: dict[str, _Place] = {}
        self._doors: dict[str, Door] = {}
        self._open: dict[str, int] = {}
        self._servers: tuple[str, ...] = ()
        self._servers_until = 0.0
        self.forwarded = Tally()

    def update(self, state: NetworkState, unreachable: Collection[str] = ()) -> None:
        """Answer out of this snapshot from now on; tasks on ``unreachable`` nodes (ids) are not up."""
        self._zones = zones(state, self._zones, unreachable)
        for task_id, door in self._doors.items():
            door.view = self._view(self._places[task_id])

    async def open(
        self,
        task_id: str,
        pid: int,
        networks: Networks,
        names: tuple[str, ...] = (),
        servers: tuple[str, ...] = (),
    ) -> None:
        """Answer the container of process ``pid``; again with the same process changes only what it sees.

        ``networks``: its addresses by network id, in order of attachment; without any there is nothing to
        answer.  ``names``: its own.  ``servers``: its own name servers (addresses); without any, the node's.

        Raises NotFound when the process has ended, Unavailable when there is no room in its namespace.
        """
        place = _Place(pid, networks, names, outside.addresses(servers))
        known = self._places.get(task_id)
        if known is not None and known.pid == pid and networks:
            self._places[task_id] = place
            self._doors[task_id].view = self._view(place)
            return
        await self.close(task_id)
        if not networks:
            return
        try:
            sockets = await asyncio.to_thread(open_for, pid)
            door = Door(sockets, self._view(place), self._asking(task_id), random_seed() & 0x7FFFFFF)
            self._places[task_id], self._doors[task_id] = place, door
            await door.open()
        except OSError as error:
            await self.close(task_id)
            raise Unavailable(
                f"container {task_id} cannot be given a name server at 127.0.0.11: {error.strerror}"
            ) from error

    async def close(self, task_id: str) -> None:
        """The container is not answered any more.  An unknown one is no error."""
        self._places.pop(task_id, None)
        door = self._doors.pop(task_id, None)
        if door is not None:
            await door.close()

    async def restore(self, attachments: Iterable[Attachment]) -> None:
        """After a restart: answer these again.  What cannot be done is reported."""
        for one in attachments:
            try:
                await self.open(one.task_id, one.pid, one.networks, one.names, one.servers)
            except SwarmError as error:
                self._report("names of a container", error)

    async def audit(self) -> tuple[str, ...]:
        """A sentence for each container that had no way to us any more.  It has it again after this."""
        found: list[str] = []
        for task_id, door in tuple(self._doors.items()):
            with contextlib.suppress(OSError):  # it has just ended
                if await asyncio.to_thread(mended, door.sockets):
                    found.append(
                        f"a program in container {task_id} removed the nftables table that leads to its name "
                        "server; the table is there again"
                    )
        return tuple(found)

    async def stop(self) -> None:
        """Nobody is answered any more."""
        for task_id in tuple(self._doors):
            await self.close(task_id)
        await self._nursery.close()

    def _view(self, place: _Place) -> answer.View:
        return answer.view(place.networks, place.names, self._zones, own_servers=bool(place.servers))

    def _asking(self, task_id: str) -> Callable[[Query, Send, bool], None]:
        def ask(query: Query, send: Send, by_udp: bool) -> None:
            waiting = self._open.get(task_id, 0)
            if waiting >= _MOST_OPEN or sum(self._open.values()) >= _MOST_OPEN_IN_ALL:
                self.forwarded.add("refused")
                send(answer.failed(query))
                return
            self._open[task_id] = waiting + 1
            self._nursery.start("name of elsewhere", self._ask(task_id, query, send, by_udp=by_udp))

        return ask

    async def _ask(self, task_id: str, query: Query, send: Send, *, by_udp: bool) -> None:
        message: bytes | None = None
        try:
            asker = self._asker(task_id)
            if asker is not None:
                message = await self._upstream.ask(query, asker, by_udp=by_udp)
        finally:
            self._open[task_id] -= 1
            if not self._open[task_id]:
                del self._open[task_id]
            self.forwarded.add("answered" if message else "failed")
            send(message or answer.failed(query))

    def _asker(self, task_id: str) -> Asker | None:
        place, door = self._places.get(task_id), self._doors.get(task_id)
        if place is None or door is None:
            return None
        if place.servers:
            return Asker(place.servers, door.sockets.udp, task_id)
        return Asker(self._node_servers())

    def _node_servers(self) -> tuple[str, ...]:
        now = self._clock.monotonic()
        if now >= self._servers_until:
            self._servers = outside.name_servers(self._settings())
            self._servers_until = now + _SETTINGS_SECONDS
        return self._servers
