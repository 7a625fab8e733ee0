"""Decide which manager to try next."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Remote(msgspec.Struct, frozen=True):
    """A manager: node id, IP of its node port, "ip:port" of its cluster port."""

    node_id: str
    address: str
    raft_address: str = ""


MOST = 28
"""Addresses that are remembered: of seven managers, each at four."""


class Remotes:
    """Managers as they were last heard of; the presumed leader is tried first, the others in turn."""

    def __init__(self, known: Iterable[Remote]) -> None:
        self._known = list(known)
        self._leader: Remote | None = None
        self._turn = 0
        self._tried = -1
        self._resume: int | None = None

    @property
    def known(self) -> tuple[Remote, ...]:
        return tuple(self._known)

    def learn(self, managers: Iterable[Remote]) -> bool:
        """The leader told who the managers are; an empty answer teaches nothing.  True: it was news."""
        fresh = list(managers)
        if not fresh or fresh == self._known:
            return False
        self._known = fresh
        return True

    def hint(self, managers: Iterable[Remote], leader: Remote | None = None) -> None:
        """The one tried last does not lead, and named the managers and maybe who leads.

        It may be behind: what was known is tried as well, and after a leader that does not answer comes the
        successor of who named it, not the next one of a list that may be old.
        """
        self._known += [one for one in managers if one not in self._known]
        self._known = self._known[-MOST:]
        if leader is not None:
            self._leader, self._resume = leader, self._tried + 1

    def leads(self, leader: Remote) -> None:
        """That one leads: it said so itself."""
        self._leader, self._resume = leader, None

    def failed(self) -> None:
        """The last one tried did not answer, or knows no leader: its successor is next."""
        self._turn = self._tried + 1 if self._resume is None else self._resume
        self._leader = self._resume = None

    def next(self) -> Remote | None:
        """Whom to try; None when no manager is known."""
        if not self._known:
            return None
        self._tried = self._turn % len(self._known)
        leader = self._leader
        if leader is not None:
            there = [index for index, one in enumerate(self._known) if one.node_id == leader.node_id]
            exactly = [index for index in there if self._known[index] == leader]
            self._tried = (exactly or there or [self._tried])[0]
        return self._known[self._tried]
