"""A bounded ring of events.  A watcher that falls behind is told to list again, never fed without end.

An event's index is the same on every replica, so a watcher can go on elsewhere: it names the last index it
has seen whole, and gets what follows or is told that the ring does not reach back so far.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

from swarmd.store.core.tables import Event

RING = 20_000


class Overrun(Exception):
    """The watcher fell behind the ring: make a full pass, then go on."""


class Watch:
    """Events since the last :meth:`next`; made by :meth:`EventLog.watch`."""

    def __init__(self, log: EventLog, after: int | None = None) -> None:
        self._log = log
        self._after = after
        self._position: int | None = log.position if after is None else log.position_after(after)

    async def next(self) -> tuple[Event, ...]:
        """Everything that happened since the last call, at least one event.

        Raises Overrun when some of it is gone already.
        """
        while True:
            while self._position == self._log.position:
                await self._log.changed()
            events = None if self._position is None else self._log.since(self._position)
            self._position = self._log.position
            if events is None:
                raise Overrun
            if self._after is not None:
                # This replica may be behind the one that was watched before.
                events = tuple(event for event in events if event.index > (self._after or 0))
            if events:
                return events


class EventLog:
    """The newest events, counted from the start of the process."""

    def __init__(self, size: int = RING) -> None:
        self.position = 0
        self._floor = 0
        self._ring: deque[Event] = deque(maxlen=size)
        self._changed = asyncio.Event()

    def watch(self, after: int | None = None) -> Watch:
        """A watcher that sees what happens from now on, or what happened after the transaction ``after``."""
        return Watch(self, after)

    def held(self) -> Iterator[Event]:
        """What the ring holds, oldest first."""
        return iter(self._ring)

    @property
    def floor(self) -> int:
        """The last index of which something is gone: one can resume after it, not before."""
        return self._floor

    def position_after(self, index: int) -> int | None:
        """Where what follows ``index`` begins; None when some of it is gone."""
        if index < self._floor:
            return None
        return self.position - sum(1 for event in self._ring if event.index > index)

    def add(self, events: tuple[Event, ...]) -> None:
        """Append, and wake everybody who waits."""
        if not events:
            return
        going = len(self._ring) + len(events) - (self._ring.maxlen or 0)
        if going > 0:
            last = self._ring[going - 1] if going <= len(self._ring) else events[going - len(self._ring) - 1]
            self._floor = last.index
        self._ring.extend(events)
        self.position += len(events)
        self._wake()

    def reset(self, index: int = 0) -> None:
        """The tables were replaced by a snapshot as of ``index``: everybody lists again."""
        self._ring.clear()
        self._floor = index
        self.position += 1
        self._wake()

    def since(self, position: int) -> tuple[Event, ...] | None:
        """Events after ``position``; None when some were dropped."""
        count = self.position - position
        if count > len(self._ring):
            return None
        return tuple(self._ring[i] for i in range(len(self._ring) - count, len(self._ring)))

    async def changed(self) -> None:
        """Until the next :meth:`add` or :meth:`reset`."""
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
