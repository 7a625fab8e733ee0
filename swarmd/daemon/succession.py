"""A manager that is being drained, or whose disk or clock is wrong, leads only while no other can.

Whoever drains a node wants to take it away; one that led until then would cost the swarm an election.
A leader with a full disk takes no changes, although the others could; to one with a wrong clock, nobody's
certificate is valid.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

import structlog

from swarmd.control.core import managers
from swarmd.kit.clock import Clock
from swarmd.model.objects import Node
from swarmd.model.states import Availability
from swarmd.store.raft.port import RaftStatus
from swarmd.store.store import Store

LOOK = 0.5
"""Seconds between looks, besides at each change of leadership."""

AGAIN = 30.0
"""Seconds after a hand-over that failed: while one is tried, nothing is written."""


_DRAINED = "this node is being drained"
_FULL = "its disk is nearly full"
_WRONG = "its clock is not that of the others"


class Leads(Protocol):
    """The part of the Raft port that knows who leads."""

    def is_leader(self) -> bool: ...

    def status(self) -> RaftStatus: ...


HandOn = Callable[[Collection[str]], Awaitable[bool]]
"""To one of these; False when none of them is current enough."""


class Succession:
    """Runs as long as node ``own`` is a manager.  ``changed`` waits for a change of leadership,
    at most so many seconds.
    """

    def __init__(
        self,
        own: str,
        store: Store,
        raft: Leads,
        clock: Clock,
        hand_on: HandOn,
        changed: Callable[[float], Awaitable[None]],
    ) -> None:
        self._own = own
        self._store = store
        self._raft = raft
        self._clock = clock
        self._hand_on = hand_on
        self._changed = changed
        self._log = structlog.get_logger()

    def heirs(self) -> list[str]:
        """Who of the others should lead rather than this one: with nothing against them, if any are."""
        able, unfit = self._able(), self._unfit()
        return [node_id for node_id in able if node_id not in unfit] or able

    def _able(self) -> list[str]:
        status = self._raft.status()
        return managers.heirs(self._own, status.members, status.reachable, self._store.all(Node))

    def _unfit(self) -> frozenset[str]:
        status = self._raft.status()
        return status.short | status.apart

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if not await self._step():
                await self._clock.sleep(AGAIN)
            await self._changed(LOOK)

    async def _step(self) -> bool:
        """False when leadership should have gone to another and did not."""
        reason, heirs = self._reason(), self.heirs()
        if not reason or not heirs or not self._raft.is_leader():
            return True
        if reason != _DRAINED and self._unfit().issuperset(heirs):
            return True
        self._log.info("leadership_handed_on", reason=reason, heirs=heirs)
        return await self._hand_on(heirs)

    def _reason(self) -> str:
        """Why this manager should not lead; empty when it may."""
        row = self._store.get(Node, self._own)
        if row is not None and row.spec.availability is Availability.DRAIN:
            return _DRAINED
        status = self._raft.status()
        if self._own in status.apart:
            return _WRONG
        return _FULL if self._own in status.short else ""
