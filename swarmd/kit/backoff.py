"""Exponential back-off with full jitter, as a value: no clock inside."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Delays that double from ``first`` to at most ``cap`` seconds, each drawn from its upper half."""

    def __init__(self, *, first: float, cap: float, fraction: Callable[[], float]) -> None:
        self._first = first
        self._cap = cap
        self._fraction = fraction
        self._next = first

    def next(self) -> float:
        """How long to wait before the next try."""
        delay = self._next * (0.5 + 0.5 * self._fraction())
        self._next = min(self._cap, self._next * 2)
        return delay

    def reset(self) -> None:
        """After a success: start again at ``first``."""
        self._next = self._first
