"""Decide which task of a service answers: the one with the least requests, in turn where they are equal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from swarmd.node.network.port import Backend

Key = tuple[str, int]
"""Address and port of a task."""


def key_of(backend: Backend) -> Key:
    return (backend.address, backend.port)


def choose(
    backends: Sequence[Backend],
    turn: int,
    *,
    busy: Mapping[Key, int],
    tried: Collection[Key],
    shunned: Collection[Key],
) -> Backend | None:
    """``turn`` grows with each request.  ``tried`` failed this very request; ``shunned`` failed others
    lately, they come last.  None: there is nobody left to try."""
    size = len(backends)
    best: Backend | None = None
    rank: tuple[bool, int] = (True, 1 << 62)
    for step in range(size):
        one = backends[(turn + step) % size]
        key = key_of(one)
        if key in tried:
            continue
        mine = (key in shunned, busy.get(key, 0))
        if best is None or mine < rank:
            best, rank = one, mine
    return best
