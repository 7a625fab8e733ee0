"""Writes metrics as Prometheus reads them: its text format, or OpenMetrics for who asks for that.

The only file that knows prometheus_client, and nothing of it is the process's: there is no global registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from swarmd.telemetry.metrics import Reading, Spread

_OPEN = "application/openmetrics-text"


class Exposition:
    """Of one daemon: what it reads of itself, and what the process says of its own."""

    def __init__(self) -> None:
        self._process = CollectorRegistry(auto_describe=False)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._process)

    def render(self, readings: Sequence[Reading], accept: str = "") -> tuple[bytes, str]:
        """The text and its media type, which ``accept`` (a header of HTTP) chooses.

        Takes some 5 microseconds for each value.
        """
        encode, media_type = choose_encoder(form(accept))
        return encode(_All(readings, self._process)), media_type


def form(accept: str) -> str:
    """What a header comes to: there are two forms of the page, whatever else is asked for."""
    try:
        _, media_type = choose_encoder(accept)
    except (TypeError, ValueError):  # the library compares versions that are no numbers
        return ""
    return _OPEN if media_type.startswith(_OPEN) else ""


class _All(Collector):
    def __init__(self, readings: Sequence[Reading], process: Collector) -> None:
        self._readings = readings
        self._process = process

    def collect(self) -> Iterator[Family]:
        yield from (_family(reading) for reading in self._readings)
        yield from self._process.collect()


def _family(reading: Reading) -> Family:
    metric = reading.metric
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels, unit=metric.unit)
        for labels, spread in reading.spreads.items():
            histogram.add_metric(labels, list(_buckets(reading.bounds, spread)), spread.total)
        return histogram
    kind = GaugeMetricFamily if metric.kind == "gauge" else CounterMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels, unit=metric.unit)
    for labels, value in reading.values.items():
        family.add_metric(labels, value)
    return family


def _buckets(bounds: Iterable[float], spread: Spread) -> Iterator[tuple[str, float]]:
    yield from zip((*map(repr, bounds), "+Inf"), spread.below, strict=True)
