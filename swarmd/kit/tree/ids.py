"""Owners as a user namespace shows them: ids inside and outside of it."""

from __future__ import annotations

from typing import NamedTuple

OVERFLOW = 65534
"""What the kernel shows for an id that has none on the other side."""


class _Range(NamedTuple):
    inside: int
    outside: int
    length: int


class IdMap(NamedTuple):
    """Ranges of a ``uid_map``; none: both sides are the same."""

    ranges: tuple[_Range, ...] = ()

    def inside(self, outside: int) -> int:
        """The id inside of one seen outside."""
        for each in self.ranges:
            if each.outside <= outside < each.outside + each.length:
                return each.inside + outside - each.outside
        return OVERFLOW if self.ranges else outside

    def outside(self, inside: int) -> int:
        """The id outside of one seen inside."""
        for each in self.ranges:
            if each.inside <= inside < each.inside + each.length:
                return each.outside + inside - each.inside
        return OVERFLOW if self.ranges else inside


SAME = IdMap()


def parse(text: str) -> IdMap:
    """The map of ``/proc/PID/uid_map`` or ``gid_map``."""
    rows = [_Range(*(int(word) for word in line.split())) for line in text.splitlines()]
    if rows == [_Range(0, 0, 0xFFFFFFFF)]:
        return SAME
    return IdMap(tuple(rows))


class Owners(NamedTuple):
    """How users and groups are renamed."""

    users: IdMap = SAME
    groups: IdMap = SAME


UNCHANGED = Owners()
