"""Decide which refusals are written down when somebody is refused again and again."""

from __future__ import annotations

import msgspec

MOST = 30
PERIOD = 60.0
"""So many refusals of one caller in so many seconds are recorded; of the others the number."""

KEPT = 1000
"""Callers remembered."""


class _Window(msgspec.Struct):
    start: float
    written: int = 0
    left_out: int = 0


class Flood:
    """By caller.  Who is refused thousands of times must not push out of the log what came before."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def admit(self, who: str, now: float) -> int | None:
        """None: leave this one out.  Else write it, with the number of those left out since the last."""
        window = self._windows.setdefault(who, _Window(now))
        if now - window.start >= PERIOD:
            window.start, window.written = now, 0
        if window.written >= MOST:
            window.left_out += 1
            return None
        window.written += 1
        left_out, window.left_out = window.left_out, 0
        if len(self._windows) > KEPT:
            self._forget(now)
        return left_out

    def _forget(self, now: float) -> None:
        old = [who for who, window in self._windows.items() if now - window.start >= PERIOD]
        for who in old or list(self._windows)[: KEPT // 2]:
            del self._windows[who]
