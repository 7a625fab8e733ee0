"""Values by key, and what of them is new since a version, without looking at the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

V = TypeVar("V")

REMEMBERED = 1000
"""Of so many keys that are gone it is known when they went."""


class Pieces(Generic[V]):
    """Versions only grow."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[int, V]] = {}  # in the order of their changes, as is the next
        self._gone: dict[str, int] = {}
        self._since = 0

    def put(self, key: str, value: V | None, version: int) -> bool:
        """The value of ``key`` from ``version`` on, None: it has none.  Answers whether that is news."""
        had = self._values.get(key)
        if value == (None if had is None else had[1]):
            return False
        self._values.pop(key, None)
        self._gone.pop(key, None)
        if value is not None:
            self._values[key] = (version, value)
        else:
            self._gone[key] = version
            if len(self._gone) > REMEMBERED:
                oldest = next(iter(self._gone))
                self._since = self._gone.pop(oldest)
        return True

    def get(self, key: str) -> V | None:
        had = self._values.get(key)
        return None if had is None else had[1]

    def keys(self) -> set[str]:
        """Those that have a value."""
        return set(self._values)

    def whole(self) -> Mapping[str, V]:
        """Every value, in the order of the keys."""
        return {key: self._values[key][1] for key in sorted(self._values)}

    def since(self, version: int) -> Mapping[str, V | None] | None:
        """What differs from ``version``, with None for keys that are gone; None when that is forgotten."""
        if version < self._since:
            return None
        changed: dict[str, V | None] = dict(self._newer(version))
        for key, at in reversed(self._gone.items()):
            if at <= version:
                break
            changed[key] = None
        return changed

    def _newer(self, version: int) -> Iterator[tuple[str, V]]:
        for key, (at, value) in reversed(self._values.items()):
            if at <= version:
                return
            yield key, value
