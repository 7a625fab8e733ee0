"""Do it again when somebody else changed a row first: for changes that are right whatever they find."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from swarmd.model.errors import OutOfSequence

T = TypeVar("T")

ATTEMPTS = 10
"""Each one starts from what is stored then; the loops write a row a few times a second at most."""


async def insist(attempt: Callable[[], Awaitable[T]]) -> T:
    """The answer of ``attempt``, which reads and commits.  Raises OutOfSequence after the last one."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await attempt()
        except OutOfSequence:
            continue
    return await attempt()
