"""Time, handed in.  Cores are told ``now`` (seconds, float); shells hold a :class:`Clock`."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What a shell may know of time."""

    def now(self) -> float:
        """Wall clock: seconds since 1970, what users see and rows store."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards, for timeouts."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        import asyncio  # a command that only looks at the clock need not wait for it to load

        await asyncio.sleep(max(0.0, seconds))
