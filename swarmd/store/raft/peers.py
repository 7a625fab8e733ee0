"""What a member knows of the others: where they are, what they last said, whom to ask for a base.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from swarmd.store.raft.epochs import View
from swarmd.store.raft.timing import Timing

_GUEST_SECONDS = 10.0


class Peers:
    """The address book and the newest status of every peer."""

    def __init__(self, self_id: str, address: str, timing: Timing) -> None:
        self._self_id = self_id
        self.own_address = address
        self._timing = timing
        self._addresses = {self_id: address}
        self._views: dict[str, View] = {}
        self._behind_since: float | None = None
        self._ahead: frozenset[str] = frozenset()

    def learn(self, addresses: Mapping[str, str]) -> None:
        """Addresses as an epoch or the caller names them; what a peer said itself is newer and stays."""
        for node_id, address in addresses.items():
            if node_id != self._self_id and node_id not in self._views:
                self._addresses[node_id] = address

    def point_to(self, members: Mapping[str, str]) -> None:
        """Somebody who is ahead of us says that these are the managers now."""
        self.learn(members)
        # One that left and was started again knows that it was a manager, but not of which others.
        self._ahead = frozenset(members) or self._ahead

    def hear(self, node_id: str, view: View) -> None:
        """``node_id`` said ``view``."""
        self._views[node_id] = view
        if view.address:
            self._addresses[node_id] = view.address

    def hear_of(self, addresses: Mapping[str, str], now: float) -> None:
        """Somebody hears these, and says where they are now; whoever is heard here says so itself."""
        for node_id in (self._addresses.keys() & addresses.keys()) - self.reachable(now).keys():
            if node_id != self._self_id:
                self._addresses[node_id] = addresses[node_id]

    def heard(self, now: float) -> dict[str, str]:
        """Where those who were heard lately are, as they said."""
        return {node_id: view.address for node_id, view in self.reachable(now).items() if view.address}

    def located(self, members: Mapping[str, str]) -> dict[str, str]:
        """``members`` with their newest addresses."""
        return {node_id: self._addresses.get(node_id, address) for node_id, address in members.items()}

    def reachable(self, now: float) -> dict[str, View]:
        """Who was heard lately."""
        return {n: v for n, v in self._views.items() if now - v.heard <= self._timing.fresh}

    def targets(self, groups: Iterable[Mapping[str, str]], now: float) -> dict[str, str]:
        """Whom to keep a way open to: the members in ``groups``, guests heard in the last seconds, and those
        who are said to be the managers of a later epoch."""
        wanted = {node_id for members in groups for node_id in members} | self._ahead
        wanted |= {node_id for node_id, view in self._views.items() if now - view.heard <= _GUEST_SECONDS}
        wanted.discard(self._self_id)
        return {node_id: self._addresses[node_id] for node_id in sorted(wanted) if node_id in self._addresses}

    def source(self, newest: int, *, eager: bool, now: float, avoid: str | None = None) -> str | None:
        """Whom to fetch a newer base from, if it is time to.

        ``eager`` members (those that follow no log) fetch at once; others first give the log a chance.
        ``avoid`` failed the last time and is asked only when there is nobody else.
        """
        ahead = {n: v for n, v in self.reachable(now).items() if v.epoch > newest}
        if not ahead:
            self._behind_since = None
            return None
        if self._behind_since is None:
            self._behind_since = now
        if not eager and now - self._behind_since < self._timing.behind:
            return None
        # Those who rolled a moment ago are still writing the base.
        sources = {n: v for n, v in ahead.items() if v.base > newest}
        return max(sources, key=lambda n: (n != avoid, sources[n].base, sources[n].started, n), default=None)

    def teacher(self, epoch: int, *, now: float, avoid: str, prefer: str) -> str | None:
        """Whom to ask for the log of ``epoch``: not ``avoid``, who has most of it, then ``prefer``."""
        found = {n: v for n, v in self.reachable(now).items() if v.started and v.applied and v.epoch >= epoch}
        # Whoever is in a later epoch had all of it, and may have forgotten it.
        known = {n: v.applied if v.epoch == epoch else 0 for n, v in found.items()}
        return max(found, key=lambda n: (n != avoid, known[n], n == prefer, n), default=None)

    def newest_of(self, candidates: Collection[str], now: float) -> str | None:
        """The reachable one among ``candidates`` that is furthest on."""
        views = {node_id: view for node_id, view in self.reachable(now).items() if node_id in candidates}
        return max(views, key=lambda node_id: (views[node_id].epoch, node_id), default=None)

    def arrived(self) -> None:
        """We began an epoch: the clock of being behind starts anew."""
        self._behind_since = None
        self._ahead = frozenset()
