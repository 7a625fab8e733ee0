"""Work that has to be done in the end, as often as it takes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from swarmd.kit.backoff import Backoff
from swarmd.kit.clock import Clock
from swarmd.kit.ids import random_fraction
from swarmd.model.errors import SwarmError

T = TypeVar("T")


def patience() -> Backoff:
    """0.2 s, doubling to 5 s."""
    return Backoff(first=0.2, cap=5.0, fraction=random_fraction)


async def insist(
    act: Callable[[], Coroutine[Any, Any, T]], clock: Clock, failed: Callable[[SwarmError], None]
) -> T:
    """The result of ``act`` once it succeeds; each failure is told and followed by a pause."""
    backoff = patience()
    while True:
        try:
            return await act()
        except SwarmError as error:
            failed(error)
        await clock.sleep(backoff.next())
