"""The build cache as the solver of a node uses it.  Asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from swarmd.image.build.cache import Cache, Outcome
from swarmd.kit.clock import Clock


class Remembering:
    """The cache, its disk out of the event loop's way.  ``used`` is told of each layer."""

    def __init__(self, cache: Cache, clock: Clock, used: Callable[[str], None]) -> None:
        self._cache = cache
        self._clock = clock
        self._used = used

    async def get(self, key: str) -> Outcome | None:
        return self._noted(self._cache.get(key, self._clock.now()))

    def _noted(self, outcome: Outcome | None) -> Outcome | None:
        if outcome is not None and outcome.layer is not None:
            self._used(outcome.layer.digest)
        return outcome

    async def put(self, key: str, outcome: Outcome, text: str) -> None:
        self._noted(outcome)
        await asyncio.to_thread(self._cache.put, key, outcome, text, self._clock.now())
