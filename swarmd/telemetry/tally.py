"""Counts that grow while a daemon runs, kept where things happen and read when somebody asks.

They belong to the object that counts, never to the process: two daemons in one process share none.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping

from swarmd.telemetry.metrics import Labels, Metric, Reading, Spread


class Tally:
    """How often something happened, by the values of its labels."""

    def __init__(self) -> None:
        self._counts: dict[Labels, float] = {}
        self._lock = threading.Lock()

    def add(self, *labels: str, by: float = 1.0) -> None:
        """From any thread."""
        with self._lock:
            self._counts[labels] = self._counts.get(labels, 0.0) + by

    def keep(self, wanted: Callable[[Labels], bool]) -> None:
        """Forget the others."""
        with self._lock:
            self._counts = {labels: count for labels, count in self._counts.items() if wanted(labels)}

    def counts(self) -> Mapping[Labels, float]:
        """A copy."""
        with self._lock:
            return dict(self._counts)

    def of(self, metric: Metric) -> Reading:
        """As what is known of a counter."""
        return Reading(metric, self.counts())


class Timings:
    """How many seconds something took, in buckets with these upper bounds, by the values of its labels."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self._found: dict[Labels, list[float]] = {}
        self._lock = threading.Lock()

    def add(self, seconds: float, *labels: str) -> None:
        """From any thread."""
        with self._lock:
            found = self._found.get(labels)
            if found is None:
                found = self._found[labels] = [0.0] * (len(self.bounds) + 2)
            found[bisect_left(self.bounds, seconds)] += 1
            found[-1] += seconds

    def keep(self, wanted: Callable[[Labels], bool]) -> None:
        """Forget the others."""
        with self._lock:
            self._found = {labels: values for labels, values in self._found.items() if wanted(labels)}

    def spreads(self) -> Mapping[Labels, Spread]:
        """A copy."""
        with self._lock:
            found = {labels: tuple(values) for labels, values in self._found.items()}
        return {labels: _spread(values) for labels, values in found.items()}

    def of(self, metric: Metric) -> Reading:
        """As what is known of a histogram."""
        return Reading(metric, spreads=self.spreads(), bounds=self.bounds)


def _spread(values: tuple[float, ...]) -> Spread:
    below, seen = [], 0
    for count in values[:-1]:
        seen += int(count)
        below.append(seen)
    return Spread(tuple(below), values[-1])
