"""A closed load: so many clients, each acting again as soon as it has its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """What a load came to: acts done, the seconds they took, and the slowest one's."""

    count: int
    seconds: float
    slowest: float

    @property
    def rate(self) -> float:
        """Acts in a second."""
        return self.count / self.seconds


async def load(
    act: Callable[[int], Awaitable[object]], clients: int, seconds: float, *, weight: int = 1
) -> Figure:
    """``clients`` at once for ``seconds``; ``act`` gets the client's number and counts ``weight``."""
    begin = time.monotonic()
    end = begin + seconds
    count, slowest = 0, 0.0

    async def client(number: int) -> None:
        nonlocal count, slowest
        before = time.monotonic()
        while before < end:
            await act(number)
            now = time.monotonic()
            slowest = max(slowest, now - before)
            count, before = count + weight, now

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(number))
    return Figure(count, time.monotonic() - begin, slowest)
