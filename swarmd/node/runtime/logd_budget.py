"""How much the log pump reads in a tenth of a second: of one container, and of all together.

Whoever writes more waits at its full pipe until the next one, so that a flood costs the node a known part of
a processor and of its disk, and the others no time.
"""

from __future__ import annotations

TICKS = 10
SHARE = 64 * 1024 * 1024 // TICKS
ALL = 256 * 1024 * 1024 // TICKS


class Budget:
    """``now`` is monotonic seconds; ``name`` a container's."""

    def __init__(self) -> None:
        self._tick = 0
        self._total = 0
        self._spent: dict[str, int] = {}

    def spend(self, name: str, size: int, now: float) -> None:
        self._turn(now)
        self._total += size
        self._spent[name] = self._spent.get(name, 0) + size

    def is_spent(self, name: str, now: float) -> bool:
        """It is not to be read before the next tick."""
        self._turn(now)
        return self._total > ALL or self._spent.get(name, 0) > SHARE

    def until_next(self, now: float) -> float:
        return max(0.0, (self._tick + 1) / TICKS - now)

    def _turn(self, now: float) -> None:
        if int(now * TICKS) != self._tick:
            self._tick, self._total, self._spent = int(now * TICKS), 0, {}
