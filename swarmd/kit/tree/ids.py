"""Owners as a user namespace shows them: ids inside and outside of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

OVERFLOW = 65534
"""What the kernel shows for an id that has none on the other side."""


class _Range(NamedTuple):
    inside: int
    outside: int
    length: int


class IdMap(NamedTuple):
    """Ranges of a ``uid_map``; none: both sides are the same.

    ``mixed``: what is seen outside may be an id of the inside already, because only a part is renamed.
    """

    ranges: tuple[_Range, ...] = ()
    mixed: bool = False

    def inside(self, outside: int) -> int:
        """The id inside of one seen outside."""
        for each in self.ranges:
            if each.outside <= outside < each.outside + each.length:
                return each.inside + outside - each.outside
        return OVERFLOW if self.ranges and not self.mixed else outside

    def outside(self, inside: int) -> int:
        """The id outside of one seen inside."""
        for each in self.ranges:
            if each.inside <= inside < each.inside + each.length:
                return each.outside + inside - each.inside
        return OVERFLOW if self.ranges else inside


SAME = IdMap()


def parse(text: str) -> IdMap:
    """The map of ``/proc/PID/uid_map`` or ``gid_map``."""
    return of_ranges([tuple(int(word) for word in line.split()) for line in text.splitlines()])


def of_ranges(numbers: Sequence[Sequence[int]], *, mixed: bool = False) -> IdMap:
    """From (inside, outside, length) of each range."""
    rows = [_Range(*row) for row in numbers]
    if rows in ([], [_Range(0, 0, 0xFFFFFFFF)]):
        return SAME
    return IdMap(tuple(rows), mixed)


class Owners(NamedTuple):
    """How users and groups are renamed."""

    users: IdMap = SAME
    groups: IdMap = SAME


UNCHANGED = Owners()
