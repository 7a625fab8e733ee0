"""A manager that is being drained leads only while no other can: it hands leadership on.

Whoever drains a node wants to take it away; one that led until then would cost the swarm an election.
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
        """Who of the others should lead rather than this one."""
        status = self._raft.status()
        return managers.heirs(self._own, status.members, status.reachable, self._store.all(Node))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if not await self._step():
                await self._clock.sleep(AGAIN)
            await self._changed(LOOK)

    async def _step(self) -> bool:
        """False when leadership should have gone to another and did not."""
        row = self._store.get(Node, self._own)
        drained = row is not None and row.spec.availability is Availability.DRAIN
        if not drained or not self._raft.is_leader():
            return True
        heirs = self.heirs()
        if not heirs:
            return True
        self._log.info("leadership_handed_on", reason="this node is being drained", heirs=heirs)
        return await self._hand_on(heirs)
