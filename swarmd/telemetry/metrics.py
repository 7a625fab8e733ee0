"""What a metric is, and what was read of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

Labels = tuple[str, ...]
"""The values of a metric's labels, in the order of their names."""

Kind = Literal["gauge", "counter", "histogram"]


class Metric(msgspec.Struct, frozen=True):
    """One of the catalogue.  ``labels``: their names; ``unit``: what the name says it is counted in, if
    anything (then the name ends in it, before the ``_total`` of a counter)."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""


class Spread(msgspec.Struct, frozen=True):
    """How measured values are spread: how many are up to each bound, how many there are; their sum."""

    below: tuple[int, ...]
    total: float


class Reading(msgspec.Struct, frozen=True):
    """The values of a metric, by the values of its labels; ``bounds``: of a histogram's buckets."""

    metric: Metric
    values: Mapping[Labels, float] = {}
    spreads: Mapping[Labels, Spread] = {}
    bounds: tuple[float, ...] = ()


def one(metric: Metric, value: float, *labels: str) -> Reading:
    """Of a metric with one value."""
    return Reading(metric, {labels: value})


def counted(metric: Metric, found: Iterable[str], every: Iterable[str] = ()) -> Reading:
    """How many there are of each kind in ``found``, and zero of those in ``every`` that are missing."""
    counts: dict[Labels, float] = {(kind,): 0.0 for kind in every}
    for kind in found:
        counts[(kind,)] = counts.get((kind,), 0.0) + 1
    return Reading(metric, counts)
