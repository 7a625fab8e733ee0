"""Reads all parts of the metrics page; one that fails, or takes too long, is left out and counted.

a scrape ──► read within the last second? ──► the same text again
                      no ──► every part, side by side, each with a limit ──► text, in a thread
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import caught, together
from swarmd.telemetry import catalogue
from swarmd.telemetry.exposition import Exposition, form
from swarmd.telemetry.metrics import Reading
from swarmd.telemetry.tally import Tally

Part = Callable[[], Awaitable[Sequence[Reading]]]
"""Reads one part; may raise."""

PATIENCE = 5.0
"""Seconds for one part; Prometheus by default gives up after ten."""
FRESH = 1.0
"""Seconds in which the same text is good for everybody: more scrapers do not cost more."""


class Scraper:
    """Of one daemon."""

    def __init__(self, parts: Mapping[str, Part], clock: Clock) -> None:
        self._parts = parts
        self._clock = clock
        self._exposition = Exposition()
        self._alone = asyncio.Lock()
        self._errors = Tally()
        for part in parts:
            self._errors.add(part, by=0.0)
        self._said: dict[str, str] = {}
        self._log = structlog.get_logger()
        self._readings: Sequence[Reading] = ()
        self._until = 0.0
        self._texts: dict[str, tuple[bytes, str]] = {}

    async def scrape(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its media type, at most a second old."""
        async with self._alone:
            if self._clock.monotonic() >= self._until:
                self._readings = await self._read()
                self._texts.clear()
                self._until = self._clock.monotonic() + FRESH
            wanted = form(accept)
            text = self._texts.get(wanted)
            if text is None:
                text = await asyncio.to_thread(self._exposition.render, self._readings, wanted)
                self._texts[wanted] = text
            return text

    async def _read(self) -> Sequence[Reading]:
        costs: dict[tuple[str, ...], float] = {}
        found = await together(*(self._one(name, part, costs) for name, part in self._parts.items()))
        return (
            *(reading for readings in found for reading in readings),
            self._errors.of(catalogue.ERRORS),
            Reading(catalogue.COST, costs),
        )

    async def _one(self, name: str, part: Part, costs: dict[tuple[str, ...], float]) -> Sequence[Reading]:
        found: Sequence[Reading] = ()

        async def read() -> None:
            nonlocal found
            async with asyncio.timeout(PATIENCE):
                found = await part()

        began = self._clock.monotonic()
        error = await caught(read())
        costs[name,] = self._clock.monotonic() - began
        if error is not None:
            self._errors.add(name)
        self._say(name, error)
        return found

    def _say(self, name: str, error: Exception | None) -> None:
        """Once, until it is well again or something else is wrong."""
        text = ""
        if error is not None:
            text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if text and text != self._said.get(name):
            self._log.warning("metrics_part_failed", part=name, reason=text)
        self._said[name] = text
