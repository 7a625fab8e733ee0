"""Do it again when somebody else changed a row first: for changes that are right whatever they find."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from swarmd.model.errors import OutOfSequence

T = TypeVar("T")

ATTEMPTS = 10
"""Each one starts from what is stored then; the loops write a row a few times a second at most."""


async def insist(attempt: Callable[[], Awaitable[T]], queue: asyncio.Lock | None = None) -> T:
    """The answer of ``attempt``, which reads and commits.  Raises OutOfSequence after the last one.

    ``queue``: where rows are shared by many who write them (see ``Store.queue``), whoever lost once waits for
    his turn there, and so does who comes while others wait: of fifty at once each is done.
    """
    if queue is None:
        return await _insist(attempt)
    if not queue.locked():
        try:
            return await attempt()
        except OutOfSequence:
            pass
    async with queue:
        return await _insist(attempt)


async def _insist(attempt: Callable[[], Awaitable[T]]) -> T:
    for _ in range(ATTEMPTS - 1):
        try:
            return await attempt()
        except OutOfSequence:
            continue
    return await attempt()
