"""Gives each of a fixed number of buckets to a member, moving as few as possible from one time to the next.

The kernel picks a bucket by a hash of the client's address and port, so equal numbers of buckets are equal
shares of the connections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

SMALL = 60
LARGE = 1260
_LARGE_FROM = 21

T = TypeVar("T", bound=tuple[object, ...] | str)


def size_for(members: int) -> int:
    """How many buckets to use: 60 (exact up to 6 members and many beyond), 1,260 from 21 members on."""
    return LARGE if members >= _LARGE_FROM else SMALL


def assign(previous: Sequence[T], members: Iterable[T], size: int) -> tuple[T, ...]:
    """The member of each of ``size`` buckets; empty without members.

    Shares differ by at most one bucket, and no other fair assignment is nearer to ``previous``.  Of more
    members than buckets only the first ``size`` in order are used.
    """
    chosen = sorted(set(members))[:size]
    if not chosen:
        return ()
    quota = _quota(previous, chosen, size)
    buckets: list[T | None] = []
    for held in (*previous, *[None] * size)[:size]:
        if held is not None and quota.get(held, 0):
            quota[held] -= 1
            buckets.append(held)
        else:
            buckets.append(None)
    missing = iter(_round_robin(chosen, quota))
    return tuple(next(missing) if held is None else held for held in buckets)


def _quota(previous: Sequence[T], chosen: list[T], size: int) -> dict[T, int]:
    """The fair share of each; the odd buckets stay with those that hold most now."""
    share, odd = divmod(size, len(chosen))
    held = Counter(previous)
    ranked = sorted(chosen, key=lambda member: -held[member])
    return {member: share + (place < odd) for place, member in enumerate(ranked)}


def _round_robin(chosen: list[T], quota: dict[T, int]) -> Iterable[T]:
    while any(quota.values()):
        for member in chosen:
            if quota[member]:
                quota[member] -= 1
                yield member
