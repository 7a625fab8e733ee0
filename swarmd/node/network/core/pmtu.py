"""Decide which size of packet to try next, to find the largest that passes between two nodes."""

from __future__ import annotations

from msgspec import Struct

SMALLEST = 128
"""Bytes, with the IP header.  What does not answer this does not answer at all."""


class Search(Struct, frozen=True):
    """``most``: the device's MTU in bytes.  ``passes``: the largest size that came back (0: none yet);
    ``fails``: the smallest that did not."""

    most: int
    passes: int = 0
    fails: int = 0

    def next(self) -> int | None:
        """The size to try now; None: :attr:`passes` is the answer."""
        if not self.passes:
            return None if self.fails else min(SMALLEST, self.most)
        if not self.fails:
            return None if self.passes >= self.most else self.most
        middle = (self.passes + self.fails) // 2
        return None if middle == self.passes else middle

    def told(self, size: int, *, came_back: bool) -> Search:
        """With what became of a packet of that size."""
        if came_back:
            return Search(self.most, max(self.passes, size), self.fails)
        return Search(self.most, self.passes, min(self.fails or size, size))
