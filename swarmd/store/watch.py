"""A bounded ring of events.  A watcher that falls behind is told to list again, never fed without end."""

from __future__ import annotations

import asyncio
from collections import deque

from swarmd.store.core.tables import Event

RING = 20_000


class Overrun(Exception):
    """The watcher fell behind the ring: make a full pass, then go on."""


class Watch:
    """Events since the last :meth:`next`; made by :meth:`EventLog.watch`."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._position = log.position

    async def next(self) -> tuple[Event, ...]:
        """Everything that happened since the last call, at least one event.

        Raises Overrun when some of it is gone already.
        """
        while self._position == self._log.position:
            await self._log.changed()
        events = self._log.since(self._position)
        self._position = self._log.position
        if events is None:
            raise Overrun
        return events


class EventLog:
    """The newest events, counted from the start of the process."""

    def __init__(self, size: int = RING) -> None:
        self.position = 0
        self._ring: deque[Event] = deque(maxlen=size)
        self._changed = asyncio.Event()

    def watch(self) -> Watch:
        """A watcher that sees what happens from now on."""
        return Watch(self)

    def add(self, events: tuple[Event, ...]) -> None:
        """Append, and wake everybody who waits."""
        if not events:
            return
        self._ring.extend(events)
        self.position += len(events)
        self._wake()

    def reset(self) -> None:
        """The tables were replaced by a snapshot: everybody lists again."""
        self._ring.clear()
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
