"""One at a time per key, and what work under way must not lose.  Asyncio; one event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator

from swarmd.kit.clock import Clock

FRESH = 6 * 3600.0
"""Seconds for which contents that no image needs yet are spared."""


class Flights:
    """Whoever comes second for a key waits, and then finds the work done (or does it himself)."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def alone(self, key: str) -> AsyncIterator[None]:
        """Hold ``key``."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._users[key] += 1
        try:
            async with lock:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._locks[key]


class Pins:
    """Names that the collection of garbage spares although no image in the catalogue has them."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    @contextlib.contextmanager
    def holding(self, names: Iterable[str]) -> Iterator[None]:
        """Spare ``names`` meanwhile."""
        held = tuple(names)
        self._held.update(held)
        try:
            yield
        finally:
            self._held.subtract(held)
            self._held += Counter()  # drops what is at zero

    def names(self) -> frozenset[str]:
        """All that is held now."""
        return frozenset(self._held)


class Fresh:
    """What came in lately, and may be part of an image that is still on its way.

    Some of it is of no use to anybody any more but as a beginning of the next try: whoever brought it has
    left it.  That is spared like the rest, unless a user wants the room.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self._left: dict[str, float] = {}

    def note(self, names: Iterable[str]) -> None:
        """``names`` came just now."""
        came = tuple(names)
        self._since.update(dict.fromkeys(came, self._clock.monotonic()))
        for name in came:
            self._left.pop(name, None)

    def leave(self, names: Iterable[str], *, after: float = 0.0) -> None:
        """Whoever brought ``names`` does no more with them, or will not when ``after`` seconds are over."""
        when = self._clock.monotonic() + after
        self._left.update((name, when) for name in names if name in self._since)

    def forget(self, names: Iterable[str]) -> None:
        """``names`` have found their place."""
        for name in names:
            self._since.pop(name, None)
            self._left.pop(name, None)

    def names(self, *, left: bool = True) -> frozenset[str]:
        """What came within the last six hours: a slow push takes that long.  ``left``: with what was left."""
        now = self._clock.monotonic()
        self._since = {name: since for name, since in self._since.items() if since > now - FRESH}
        self._left = {name: when for name, when in self._left.items() if name in self._since}
        if left:
            return frozenset(self._since)
        return frozenset(name for name in self._since if self._left.get(name, now + 1) > now)
