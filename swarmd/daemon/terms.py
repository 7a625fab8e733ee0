"""One leader's term after another, for as long as a node is a manager."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Protocol

import structlog

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery, caught, until
from swarmd.manager.term import Term
from swarmd.model.errors import SwarmError, Unavailable
from swarmd.store.raft.port import RaftStatus

RETERM = 1.0
"""Seconds before a manager that stayed leader after a crashed term begins a new one."""


class Leads(Protocol):
    """The part of the Raft port that knows who leads."""

    def is_leader(self) -> bool: ...

    def status(self) -> RaftStatus: ...

    async def transfer(self, among: Collection[str] = ()) -> None: ...


class Terms:
    """Begins a term when leadership comes, ends it when leadership goes or a loop of it fails."""

    def __init__(
        self,
        raft: Leads,
        clock: Clock,
        make: Callable[[], Term],
        changed: Callable[[], asyncio.Event],
        nursery: Nursery,
    ) -> None:
        """``changed`` answers the event that is set at the next change of role, leader or members."""
        self._raft = raft
        self._clock = clock
        self._make = make
        self._changed = changed
        self._nursery = nursery
        self._log = structlog.get_logger()
        self.current: Term | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            while not self._raft.is_leader():
                await self._changed().wait()
            status = self._raft.status()
            self._log.info("term_begins", term=status.term, epoch=status.epoch)
            self.current = self._make()
            try:
                crashed = await self._one_term(self.current)
            finally:
                self.current.end()
                self.current = None
            self._log.info("term_ends", crashed=crashed)
            if crashed:
                await self.hand_on()
                await self._clock.sleep(RETERM)

    async def _one_term(self, term: Term) -> bool:
        """True when a loop failed, False when leadership ended."""
        over = asyncio.Event()
        watching = self._nursery.start("end of leadership", self._watch(over))
        try:
            error = await caught(until(term.run(), over))
        finally:
            watching.cancel()
        if error is None:
            return False
        if _only_unavailable(error):
            # The store could not be changed: leadership is ending, or the disk is full.
            self._log.warning("term_unavailable", reason=str(_first(error)))
            return self._raft.is_leader()
        self._log.error("term_crashed", exc_info=error)
        return True

    async def _watch(self, over: asyncio.Event) -> None:
        while self._raft.is_leader():
            await self._changed().wait()
        over.set()

    async def hand_on(self, among: Collection[str] = ()) -> bool:
        """Let another manager lead, one of ``among`` if some are named; False when none is current enough."""
        try:
            await self._raft.transfer(among)
        except SwarmError as error:
            self._log.warning("leadership_kept", reason=str(error))
            return False
        return True


def _only_unavailable(error: Exception) -> bool:
    if isinstance(error, ExceptionGroup):
        return all(_only_unavailable(one) for one in error.exceptions)
    return isinstance(error, Unavailable)


def _first(error: Exception) -> Exception:
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error
