"""The shell around every control loop: events make keys dirty, the core plans them, the store is changed.

    full pass ─► dirty keys ─► planner.plan (pure) ─► commit ─► events ─► dirty keys ─► ...
                     ▲                    └─ wake_at ─► alarm ─┘

There is no timer that gathers changes: whatever arrives while a commit is in flight is the next turn's work.
A crash propagates and takes the leader's term with it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from swarmd.kit.backoff import Backoff
from swarmd.kit.clock import Clock
from swarmd.kit.groups import TaskGroup
from swarmd.kit.ids import random_fraction
from swarmd.manager.plan import Agenda, Step
from swarmd.model.errors import Conflict, OutOfSequence, Unavailable
from swarmd.model.objects import Node
from swarmd.store.core.tables import Event
from swarmd.store.core.transaction import Change
from swarmd.store.store import Store
from swarmd.store.watch import Overrun, Watch

CHANGES = 200
"""Most changes of one transaction (a single step may be larger; it is never torn)."""

KEYS = 64
"""Most keys planned at once: between turns the process serves others."""


class Planner(Protocol):
    """What differs between the loops.  Everything here is synchronous and reads the store only."""

    def reset(self) -> Iterable[str]:
        """Forget what was derived from events; every key there is."""
        ...

    def touched(self, event: Event) -> Iterable[str]:
        """The keys whose plan ``event`` may have changed."""
        ...

    def plan(self, keys: Collection[str], now: float) -> Agenda:
        """What to do about these keys now."""
        ...


class ControlLoop:
    """Runs one planner against the store until cancelled."""

    def __init__(self, store: Store, clock: Clock, planner: Planner) -> None:
        self._store = store
        self._clock = clock
        self._planner = planner
        self._dirty: dict[str, None] = {}
        self._wakes: dict[str, float] = {}
        self._alarms: list[tuple[float, str]] = []
        self._seen = 0
        self._news = asyncio.Event()
        self._backoff = Backoff(first=0.01, cap=1.0, fraction=random_fraction)
        self._largest = CHANGES

    async def run(self) -> None:
        """Until cancelled; whatever else ends it is an error of the loop."""
        watch = self._store.watch()
        self._start_over()
        async with TaskGroup() as group:
            group.create_task(self._listen(watch), name="listen")
            while True:
                await self._wait_for_work(group)
                await self._turn()

    def _start_over(self) -> None:
        self._wakes.clear()
        self._alarms.clear()
        self._seen = self._store.index
        self._dirty = dict.fromkeys(self._planner.reset())

    async def _listen(self, watch: Watch) -> None:
        while True:
            try:
                events = await watch.next()
            except Overrun:
                watch = self._store.watch()
                self._start_over()
            else:
                for event in events:
                    self._dirty.update(dict.fromkeys(self._planner.touched(event)))
                self._seen = max(self._seen, events[-1].index)
            self._news.set()

    async def _wait_for_work(self, group: TaskGroup) -> None:
        while True:
            self._news.clear()
            self._collect_due()
            if self._dirty:
                return
            if not self._alarms:
                await self._news.wait()
                continue
            alarm = group.create_task(self._ring_at(self._alarms[0][0]), name="alarm")
            try:
                await self._news.wait()
            finally:
                alarm.cancel()

    async def _ring_at(self, when: float) -> None:
        await self._clock.sleep(when - self._clock.now())
        self._news.set()

    def _collect_due(self) -> None:
        now = self._clock.now()
        while self._alarms and (self._alarms[0][0] <= now or self._is_stale(self._alarms[0])):
            alarm = heapq.heappop(self._alarms)
            if not self._is_stale(alarm):
                del self._wakes[alarm[1]]
                self._dirty[alarm[1]] = None

    def _is_stale(self, alarm: tuple[float, str]) -> bool:
        return self._wakes.get(alarm[1]) != alarm[0]

    async def _turn(self) -> None:
        keys = [key for key, _ in zip(self._dirty, range(KEYS), strict=False)]
        for key in keys:
            del self._dirty[key]
            self._wakes.pop(key, None)
        agenda = self._planner.plan(keys, self._clock.now())
        for key, when in agenda.wakes.items():
            self._wakes[key] = when
            heapq.heappush(self._alarms, (when, key))
        if not agenda.steps:
            await asyncio.sleep(0)
            return
        try:
            await self._commit(agenda.steps)
        except (OutOfSequence, Conflict, Unavailable):
            # Somebody else changed a row first, or nobody could answer: decide again on what is then true.
            self._dirty.update(dict.fromkeys(keys))
            self._largest = max(1, self._largest // 2)
            await self._clock.sleep(self._backoff.next())
        else:
            self._backoff.reset()

    async def _commit(self, steps: Sequence[Step]) -> None:
        batch: list[Change] = []
        for step in steps:
            if batch and len(batch) + len(step) > self._largest:
                await self._store_batch(batch)
                batch = []
            batch.extend(step)
        await self._store_batch(batch)

    async def _store_batch(self, batch: Sequence[Change]) -> None:
        index = await self._store.commit(batch)
        self._largest = min(CHANGES, self._largest * 2)
        while self._seen < index:
            self._news.clear()
            await self._news.wait()


def node_matters(old: object, new: object) -> bool:
    """Whether a node changed in what placement depends on (not only in its message or addresses)."""
    if not isinstance(old, Node) or not isinstance(new, Node):
        return True
    return (old.spec, old.role, old.description, old.status.state, old.removed) != (
        new.spec, new.role, new.description, new.status.state, new.removed,
    )  # fmt: skip
