"""Whom a member knows, in which state, and a digest of it that two members can compare."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import msgspec

from swarmd.node.membership.core.messages import DIGEST_BUCKETS, Address, State, Update
from swarmd.node.membership.core.prng import Prng


class Member(msgspec.Struct):
    """Another member: the record that stands, and when (the caller's ``now``) its state last changed."""

    record: Update
    since: float

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def state(self) -> State:
        return self.record.state

    @property
    def address(self) -> Address:
        return self.record.address


class Roster:
    """Every other member that is known, the dead included until they are forgotten."""

    def __init__(self, prng: Prng) -> None:
        self._prng = prng
        self._members: dict[str, Member] = {}
        self._live: list[Member] | None = None
        self._ring: list[str] = []
        self._buckets = [0] * DIGEST_BUCKETS

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def get(self, member_id: str) -> Member | None:
        return self._members.get(member_id)

    def live(self) -> list[Member]:
        """All others that are alive or suspect."""
        if self._live is None:
            self._live = [member for member in self._members.values() if member.state.live]
        return self._live

    def size(self) -> int:
        """N: the live others and oneself."""
        return len(self.live()) + 1

    def gone(self) -> list[Member]:
        """The dead that may come back (who left has said that it will not)."""
        return [member for member in self._members.values() if member.state is State.DEAD]

    def put(self, record: Update, now: float) -> Member:
        """Let ``record`` stand for its member."""
        member = self._members.get(record.id)
        if member is None:
            member = self._members[record.id] = Member(record, now)
            # At a random place in the round, so that newcomers are not all probed at its end.
            self._ring.insert(self._prng.below(len(self._ring) + 1), record.id)
        else:
            self._toggle(member.record)
            if member.state != record.state or member.record.epoch != record.epoch:
                member.since = now
            member.record = record
        self._toggle(record)
        self._live = None
        return member

    def forget(self, before: float) -> None:
        """Drop the dead and the left whose state is older than ``before``."""
        old = [member.id for member in self if not member.state.live and member.since < before]
        for member_id in old:
            del self._members[member_id]

    def pick(self, count: int, *, without: str = "", steady: bool = False) -> list[Member]:
        """Up to ``count`` random live members, never ``without``; with ``steady`` no suspects either."""
        pool = self.live()
        if without or steady:
            pool = [m for m in pool if m.id != without and not (steady and m.state is State.SUSPECT)]
        return self._prng.sample(pool, count)

    def next_in_round(self) -> Member | None:
        """The next live member of the round; each round visits everybody once, in a new random order."""
        for refilled in (False, True):
            while self._ring:
                member = self._members.get(self._ring.pop())
                if member is not None and member.state.live:
                    return member
            if not refilled:
                self._ring = [member.id for member in self.live()]
                self._prng.shuffle(self._ring)
        return None

    def successor(self, member_id: str) -> Member | None:
        """The live member whose id follows ``member_id`` in a ring of all ids."""
        live = self.live()
        after = [member for member in live if member.id > member_id]
        return min(after or live, key=lambda member: member.id, default=None)

    def digest(self, own: Update) -> bytes:
        """One 64-bit hash per bucket over id and version of all live members, ``own`` record included."""
        buckets = list(self._buckets)
        buckets[bucket_of(own.id)] ^= _hash(own)
        return b"".join(value.to_bytes(8, "big") for value in buckets)

    def in_buckets(self, buckets: Iterable[int]) -> list[str]:
        """The ids known in these buckets, the dead included."""
        wanted = set(buckets)
        return [member_id for member_id in self._members if bucket_of(member_id) in wanted]

    def _toggle(self, record: Update) -> None:
        # Only the living count: the dead are forgotten at different times on different members, and
        # that must not look like a difference.
        if record.state.live:
            self._buckets[bucket_of(record.id)] ^= _hash(record)


def bucket_of(member_id: str) -> int:
    """The bucket of the digest an id belongs to."""
    return hashlib.blake2b(member_id.encode(), digest_size=1).digest()[0] % DIGEST_BUCKETS


def differing(ours: bytes, theirs: bytes) -> list[int]:
    """The buckets in which two digests differ."""
    return [n for n in range(DIGEST_BUCKETS) if ours[n * 8 : n * 8 + 8] != theirs[n * 8 : n * 8 + 8]]


def _hash(record: Update) -> int:
    text = f"{record.id}/{record.epoch}/{record.incarnation}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
