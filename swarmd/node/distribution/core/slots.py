"""Decide whom a node serves: few at a time, each until it is done, so that they can soon serve others.

Ten that share one uplink all end late; one that has it to itself ends soon, and then there are two sources.
Pure: told what happened and ``now`` (monotonic seconds).
"""

from __future__ import annotations

from collections.abc import Hashable

TOTAL = 4
"""Nodes that are served at once, whatever they fetch."""

PER_BLOB = 1
"""Nodes that are served the same blob at once."""

SLOW = 20.0
"""Seconds after which a node that is still not done does not keep others from the same blob any more."""

HOLD = 2.0
"""Seconds for which a node that asks for nothing keeps its place."""

REMEMBERED = 4
"""Nodes of which the others are told that they have the blob now."""


class _Place:
    def __init__(self, now: float) -> None:
        self.streams = 0
        self.began = self.seen = now


class Slots:
    """The places of one node, by (who is served, digest)."""

    def __init__(self, *, total: int = TOTAL, per_blob: int = PER_BLOB, hold: float = HOLD) -> None:
        self._total = total
        self._per_blob = per_blob
        self._hold = hold
        self._places: dict[tuple[Hashable, str], _Place] = {}
        self._given: dict[str, dict[str, str]] = {}

    def begin(self, client: Hashable, digest: str, now: float) -> bool:
        """Whether a stream to ``client`` may begin; then :meth:`end` must follow."""
        self._forget(now)
        place = self._places.get((client, digest))
        if place is None:
            same = sum(
                1 for (_, blob), other in self._places.items() if blob == digest and now - other.began < SLOW
            )
            clients = {who for who, _ in self._places}
            if same >= self._per_blob or (client not in clients and len(clients) >= self._total):
                return False
            place = self._places[client, digest] = _Place(now)
        place.streams += 1
        place.seen = now
        return True

    def end(self, client: Hashable, digest: str, now: float) -> None:
        """A stream has ended, well or not."""
        place = self._places.get((client, digest))
        if place is not None:
            place.streams -= 1
            place.seen = now

    def done(self, client: str, digest: str, address: str) -> None:
        """It needs nothing more; with an address it is one of those that have the blob."""
        self._places.pop((client, digest), None)
        if address:
            given = self._given.setdefault(digest, {})
            given.pop(client, None)
            given[client] = address
            while len(given) > REMEMBERED:
                del given[next(iter(given))]
            while len(self._given) > 1_000:
                del self._given[next(iter(self._given))]

    def others(self, digest: str) -> list[tuple[str, str]]:
        """(node id, address) of nodes that were given the blob lately, the newest first."""
        return list(reversed(self._given.get(digest, {}).items()))

    def _forget(self, now: float) -> None:
        late = [
            key for key, place in self._places.items() if place.streams <= 0 and now - place.seen > self._hold
        ]
        for key in late:
            del self._places[key]
