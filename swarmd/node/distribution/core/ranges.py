"""Decide which range of a blob is fetched next, and what of it can be written now.  Pure.

Ranges arrive in any order and are written in theirs; what waits for an earlier one is in memory, so none is
begun that lies too far ahead.
"""

from __future__ import annotations

import msgspec

PIECE = 4 << 20
"""Bytes of a range."""

WINDOW = 8
"""Ranges that may be under way or in memory."""


class Range(msgspec.Struct, frozen=True):
    """Bytes ``offset`` to ``offset + length`` of a blob."""

    offset: int
    length: int


class Ranges:
    """The ranges of one blob of ``size`` bytes."""

    def __init__(self, size: int, *, piece: int = PIECE, window: int = WINDOW) -> None:
        self._size = size
        self._piece = piece
        self._window = window
        self._fresh = 0
        self._back: list[Range] = []
        self._arrived: dict[int, bytes] = {}
        self._written = 0

    @property
    def size(self) -> int:
        """Bytes of the whole blob."""
        return self._size

    @property
    def is_done(self) -> bool:
        """All of it was given out by :meth:`ready`."""
        return self._written >= self._size

    @property
    def written(self) -> int:
        """Bytes that :meth:`ready` gave out."""
        return self._written

    def next(self) -> Range | None:
        """A range to fetch; None when all are under way, or too far ahead."""
        if self._back:
            return self._back.pop(self._back.index(min(self._back, key=lambda one: one.offset)))
        if self._fresh >= self._size or self._fresh >= self._written + self._window * self._piece:
            return None
        found = Range(self._fresh, min(self._piece, self._size - self._fresh))
        self._fresh += found.length
        return found

    def back(self, unfetched: Range) -> None:
        """It did not come: somebody has to fetch it all the same."""
        self._back.append(unfetched)

    def arrived(self, part: Range, data: bytes) -> None:
        """All bytes of the range."""
        self._arrived[part.offset] = data

    def ready(self) -> bytes | None:
        """The next bytes to write, each once and in order."""
        data = self._arrived.pop(self._written, None)
        if data is not None:
            self._written += len(data)
        return data
