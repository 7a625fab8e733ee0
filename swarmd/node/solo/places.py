"""Keeps single containers in their networks of the swarm: before they start, while they run, after a change.

make    ──► attach at a manager ──► (interface)
end     ──► not up: its names go, its addresses stay
session ──► report ──► what a manager knows otherwise is attached again; an address that was lost is left
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import caught
from swarmd.model.errors import SwarmError, Unavailable
from swarmd.model.replace import replace
from swarmd.node.solo.core import networks
from swarmd.node.solo.core.record import Joined, Record
from swarmd.node.solo.maker import Maker
from swarmd.node.solo.managers import Managers

AGAIN = 1.0
"""Seconds until what could not be reported is tried again."""


class Held:
    """One container: its record, who changes it, what was waited last, and what ends a wait.

    ``up``: it has its interface, or is to have it at once.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.change = asyncio.Lock()
        self.waited = 0.0
        self.is_waiting = False
        self.changed = asyncio.Event()
        self.up = False


Save = Callable[[Held, tuple[Joined, ...]], None]


class Places:
    """``held``: every container there is; ``save``: keeps the networks of one durably."""

    def __init__(
        self,
        managers: Managers,
        maker: Maker,
        clock: Clock,
        held: Callable[[], Iterable[Held]],
        save: Save,
        lives: Callable[[str], bool],
    ) -> None:
        self._managers = managers
        self._maker = maker
        self._clock = clock
        self._held = held
        self._save = save
        self._lives = lives
        self._due = asyncio.Event()
        self._log = structlog.get_logger()

    def report(self) -> None:
        """A manager is to be told everything: it is a new one, or was not told something."""
        self._due.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            error = await caught(self._report())
            if isinstance(error, Unavailable):
                self._due.set()
                await self._clock.sleep(AGAIN)
            elif error is not None:
                self._log.warning("containers_not_reported", reason=str(error))

    async def take(self, held: Held) -> None:
        """It is about to have its interface: its networks know of it.

        Without a leader one that has its addresses goes on with them.  Raises what a manager refuses it for.
        """
        was, held.up = held.up, True
        settled = all(one.is_settled for one in held.record.networks)
        if not held.record.networks or (was and settled):
            return
        try:
            await self._attach(held, held.record, patience=0.0 if settled else None)
        except Unavailable:
            if not settled:
                held.up = was
                raise
            self.report()
        except BaseException:
            held.up = was
            raise

    async def rest(self, held: Held) -> None:
        """Its interface is gone."""
        was, held.up = held.up, False
        if held.record.networks and was:
            await self._tell(held)

    async def leave(self, held: Held) -> None:
        """It is gone, and its addresses are free."""
        held.up = False
        if held.record.networks:
            self._save(held, ())
            await self._tell(held)

    async def connect(self, held: Held, one: Joined) -> None:
        """It joins a network; one that runs is in it at once.  Raises Refused, NotFound, Unavailable."""
        before = held.record
        await self._attach(held, networks.joining(before, one))
        try:
            await self._renew(before, held)
        except SwarmError:
            self._save(held, before.networks)
            await self._tell(held)
            raise

    async def disconnect(self, held: Held, ref: str) -> None:
        """It leaves a network.  Raises Refused, Invalid."""
        before = held.record
        self._save(held, networks.leaving(before, ref).networks)
        try:
            await self._renew(before, held)
        finally:
            await self._tell(held)

    async def _renew(self, before: Record, held: Held) -> None:
        if held.up and self._lives(before.id):
            await self._maker.renew(before, held.record)

    async def _attach(self, held: Held, wanted: Record, patience: float | None = None) -> None:
        def keep(joined: tuple[Joined, ...]) -> None:
            self._save(held, joined)

        limit = {} if patience is None else {"patience": patience}
        await self._managers.attach(wanted, keep, up=held.up, **limit)

    async def _tell(self, held: Held) -> None:
        """Now if that is possible, else with the next report."""
        try:
            await self._attach(held, held.record, patience=0.0)
        except SwarmError as error:
            self._log.info("container_told_later", container=held.record.name, reason=str(error))
            self.report()

    async def _report(self) -> None:
        stale = await self._managers.report(lambda: [(held.record, held.up) for held in self._held()])
        later: Unavailable | None = None
        for held in tuple(self._held()):
            if held.record.id in stale:
                async with held.change:
                    error = await caught(self._again(held))
                if isinstance(error, Unavailable):
                    later = error
                elif error is not None:
                    self._log.warning("container_not_attached", name=held.record.name, reason=str(error))
        if later is not None:
            raise later

    async def _again(self, held: Held) -> None:
        """What a manager does not know, or knows otherwise.

        What it refuses is left; an address that somebody else has got meanwhile becomes another.
        """
        before = held.record
        try:
            await self._attach(held, before)
        except Unavailable:
            raise
        except SwarmError as error:
            self._log.warning("container_loses_networks", container=before.name, reason=str(error))
            await self._what_it_can(held, before)
        if held.record != before:
            try:
                await self._renew(before, held)
            except Unavailable:
                self._save(held, before.networks)  # the next report finds that it is not so yet
                raise

    async def _what_it_can(self, held: Held, before: Record) -> None:
        kept: tuple[Joined, ...] = ()
        lost: tuple[Joined, ...] = ()
        try:
            for one in before.networks:
                anew = replace(one, addresses=())
                joins = await self._joins(held, before, (*kept, one))
                if joins or await self._joins(held, before, (*kept, anew)):
                    kept = held.record.networks
                else:
                    lost = (*lost, anew)
        except Unavailable:
            self._save(held, before.networks)
            raise
        self._save(held, (*kept, *lost))

    async def _joins(self, held: Held, before: Record, joined: tuple[Joined, ...]) -> bool:
        """Raises Unavailable."""
        try:
            await self._attach(held, replace(before, networks=joined))
        except Unavailable:
            raise
        except SwarmError:
            return False
        return True
