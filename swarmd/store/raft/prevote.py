"""Asking before standing: a member raises its term only when a majority would vote for it.  Pure.

Without this a member that was cut off comes back with a high term and deposes a working leader.
"""

from __future__ import annotations

from collections.abc import Sequence


class Ballot:
    """One member's question to ``others`` and the answers so far."""

    def __init__(self, self_id: str, others: Sequence[str]) -> None:
        self._members = len(others) + 1
        self._self_id = self_id
        self._others = frozenset(others)
        self._term: int | None = None
        self._granted: set[str] = set()
        self._ask = False

    def open(self, term: int) -> None:
        """Begin anew, at ``term``."""
        self._term = term
        self._granted = {self._self_id}
        self._ask = True

    def cancel(self) -> None:
        """Somebody leads: there is nothing to stand for."""
        self._term = None
        self._ask = False

    def take_question(self) -> int | None:
        """The term to ask the others about, once per ballot."""
        if not self._ask:
            return None
        self._ask = False
        return self._term

    def count(self, voter: str, term: int) -> None:
        """``voter`` would vote for us at ``term``."""
        if term == self._term and voter in self._others:
            self._granted.add(voter)

    def won(self, term: int) -> bool:
        """True once, when a majority answered yes and our term is still the one asked about."""
        if self._term != term or 2 * len(self._granted) <= self._members:
            return False
        self._term = None
        return True
