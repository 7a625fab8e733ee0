"""Decide which manager to try next."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Remote(msgspec.Struct, frozen=True):
    """A manager: node id, IP of its node port, "ip:port" of its cluster port."""

    node_id: str
    address: str
    raft_address: str = ""


class Remotes:
    """Managers as they were last heard of; the presumed leader is tried first, the others in turn."""

    def __init__(self, known: Iterable[Remote]) -> None:
        self._known = list(known)
        self._leader = ""
        self._turn = 0
        self._tried = -1

    @property
    def known(self) -> tuple[Remote, ...]:
        return tuple(self._known)

    def learn(self, managers: Iterable[Remote]) -> bool:
        """A manager told who the managers are; an empty answer teaches nothing.  True: it was news."""
        fresh = list(managers)
        if not fresh or fresh == self._known:
            return False
        self._known = fresh
        return True

    def leads(self, node_id: str) -> None:
        """That one leads, as far as anybody said."""
        self._leader = node_id

    def failed(self) -> None:
        """The last one tried did not answer, or knows no leader: its successor is next."""
        self._leader = ""
        self._turn = self._tried + 1

    def next(self) -> Remote | None:
        """Whom to try; None when no manager is known."""
        if not self._known:
            return None
        self._tried = self._turn % len(self._known)
        for index, remote in enumerate(self._known):
            if remote.node_id == self._leader:
                self._tried = index
        return self._known[self._tried]
