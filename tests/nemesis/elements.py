"""Whether a set lost, doubled or invented elements.  Each is added at most once and removed at most once.

An element's life is *absent → present → gone*; every list that shows it or does not show it says how far it
was between its question and its answer, and so do the acknowledged additions and removals.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from tests.nemesis.history import Operation


class Broken(msgspec.Struct, frozen=True):
    """One sentence, and the operations that prove it."""

    what: str
    evidence: tuple[Operation, ...]


class _Life(msgspec.Struct):
    """What happened to one element."""

    add: Operation | None = None
    remove: Operation | None = None
    shown: list[Operation] = msgspec.field(default_factory=list)
    hidden: list[Operation] = msgspec.field(default_factory=list)


def judge(operations: Sequence[Operation]) -> list[Broken]:
    """All that is wrong; empty when nothing is."""
    lists = [o for o in operations if o.kind == "list" and o.outcome == "ok"]
    lives = _lives(operations, lists)
    found = [
        Broken(f"{name} is listed {count} times at once", (listing,))
        for listing in lists
        for name, count in Counter(listing.listed).items()
        if count > 1
    ]
    for name, life in lives.items():
        broken = _invented(name, life) or _lost(name, life) or _returned(name, life)
        if broken is not None:
            found.append(broken)
    return found


def _lives(operations: Iterable[Operation], lists: Sequence[Operation]) -> dict[str, _Life]:
    lives: dict[str, _Life] = defaultdict(_Life)
    for operation in operations:
        if operation.kind == "add":
            lives[operation.key].add = operation
        elif operation.kind == "remove":
            lives[operation.key].remove = operation
    for listing in lists:
        for name in listing.listed:
            lives[name].shown.append(listing)
    for listing in lists:
        there = set(listing.listed)
        for name, life in lives.items():
            if name not in there:
                life.hidden.append(listing)
    return lives


def _invented(name: str, life: _Life) -> Broken | None:
    """Shown although nobody added it, or before anybody did, or after a refusal."""
    add = life.add
    for listing in life.shown:
        if add is None:
            return Broken(f"{name} is listed, nobody added it", (listing,))
        if add.outcome == "fail":
            return Broken(f"{name} is listed, its client was told that it was not added", (add, listing))
        if listing.returned < add.invoked:
            return Broken(f"{name} was listed before it was added", (listing, add))
    return None


def _proof_of_presence(life: _Life) -> Operation | None:
    """The earliest answer that says that it had been added."""
    proofs = list(life.shown)
    if life.add is not None and life.add.outcome == "ok":
        proofs.append(life.add)
    if life.remove is not None and life.remove.outcome == "ok":
        proofs.append(life.remove)
    return min(proofs, key=lambda o: o.returned, default=None)


def _lost(name: str, life: _Life) -> Broken | None:
    """Not shown after it was certainly there, and before anybody asked for its removal."""
    proof = _proof_of_presence(life)
    if proof is None:
        return None
    asked = life.remove
    for listing in life.hidden:
        if listing.invoked > proof.returned and (
            asked is None or asked.outcome == "fail" or listing.returned < asked.invoked
        ):
            return Broken(f"{name} was acknowledged or seen, a later list lacks it", (proof, listing))
    return None


def _returned(name: str, life: _Life) -> Broken | None:
    """Shown after it was certainly gone."""
    asked, proof = life.remove, _proof_of_presence(life)
    if asked is None or proof is None:
        return None
    ends = [o for o in life.hidden if o.invoked > proof.returned and o.returned >= asked.invoked]
    if asked.outcome == "ok":
        ends.append(asked)
    end = min(ends, key=lambda o: o.returned, default=None)
    for listing in life.shown:
        if end is not None and listing.invoked > end.returned:
            return Broken(f"{name} was removed, a later list shows it again", (end, listing))
    return None
