"""How much of a CPU was used between two looks."""

from __future__ import annotations


def cpu_percent(before: int, after: int, seconds: float) -> float:
    """Of one CPU; ``before`` and ``after`` in nanoseconds of CPU time."""
    return max(0, after - before) / 1e7 / seconds if seconds > 0 else 0.0
