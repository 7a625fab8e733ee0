"""Decide how much one container may ask: so much in each tenth of a second, by all of its ways together."""

from __future__ import annotations

PER_SLICE = 2000
"""Answers of our own in a slice; a container that asks for ever takes a third of a core, not all of it."""

OUTSIDE = 20
"""What a question for somebody outside costs, in answers of our own."""

SLICE_SECONDS = 0.1


class Budget:
    """Times are the event loop's, in seconds."""

    def __init__(self) -> None:
        self._left = 0
        self.ends = float("-inf")

    def left(self, now: float) -> int:
        """How many answers there are left in the slice; zero: wait until ``ends``."""
        if now >= self.ends:
            self._left, self.ends = PER_SLICE, now + SLICE_SECONDS
        return max(0, self._left)

    def spend(self, cost: int = 1) -> None:
        """What was begun is finished: the last question may cost more than is left."""
        self._left -= cost
