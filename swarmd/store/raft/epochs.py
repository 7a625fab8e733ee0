"""The rules by which epochs follow one another.  Pure.

An epoch is one static Raft group.  A seal in its log ends it; the state behind the seal is the base of the
next.  The rules say who may begin an epoch, when an old one may be forgotten, and which seal may be proposed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping

import msgspec

from swarmd.model.errors import Invalid, Refused

MAX_MEMBERS = 7


class View(msgspec.Struct, frozen=True):
    """What a peer last said of itself.

    ``epoch`` is the newest it holds (0: none), ``started`` whether it takes part in it,
    ``members`` those of the newest it knows of, ``address`` where it is, ``heard`` our monotonic time then,
    ``floor`` the newest epoch it ever held: one that left holds no base and knows where things went;
    ``base`` the newest epoch whose base can be fetched there (it may hold later ones as base and logs),
    ``applied`` how many entries of its newest epoch it has (0: it follows no log, or does not say),
    ``short`` whether its disk is nearly full, ``ahead`` how many seconds its wall clock was before ours then.
    """

    epoch: int
    started: bool
    members: dict[str, str]
    address: str
    heard: float
    floor: int = 0
    base: int = 0
    applied: int = 0
    short: bool = False
    ahead: float = 0.0

    @property
    def knows(self) -> int:
        """The newest epoch it knows of."""
        return max(self.epoch, self.floor)


def is_majority(some: Collection[str], members: Collection[str]) -> bool:
    """More than half of ``members`` are in ``some``."""
    return 2 * len(set(some) & set(members)) > len(members)


def may_install(epoch: int, *, member: bool, newest: int, floor: int) -> bool:
    """Whether a base that a peer gave may be made our own.

    A machine that held an epoch and was wiped has forgotten its votes there: it must not begin it again.
    """
    if epoch <= newest:
        return False
    return epoch > floor or not member


def lost_its_disk(*, member: bool, newest: int, floor: int) -> bool:
    """A base names this machine although it never held one.

    Members are only ever added while they hold the base of the epoch before, so its votes are lost.
    """
    return member and newest == 0 and floor == 0


def is_finished(
    newest: int, members: Collection[str], old_members: Collection[str], views: Mapping[str, View]
) -> bool:
    """Whether everything before epoch ``newest`` may be forgotten.

    ``views`` holds everybody who can be reached, this machine included.  The next epoch's majority must run
    and every reachable old member must know of it; somebody in a still later epoch proves the former.  One
    that left and was wiped (epoch 0) takes part in nothing old, whatever it knows.
    """
    running = {node for node, view in views.items() if view.started and view.epoch >= newest}
    proved = is_majority(running, members) or any(view.knows > newest for view in views.values())
    waiting = (views[node] for node in old_members if node in views)
    return proved and all(view.knows >= newest or view.epoch == 0 for view in waiting)


def not_ready(epoch: int, next_members: Collection[str], views: Mapping[str, View]) -> list[str]:
    """The next members that are not reachable with what ``epoch`` began with."""
    return sorted(node for node in next_members if node not in views or views[node].epoch != epoch)


def lagging(epoch: int, reached: int, views: Mapping[str, View]) -> list[str]:
    """The learners that follow the log of ``epoch`` and do not have its first ``reached`` entries yet."""
    following = {n: v for n, v in views.items() if v.epoch == epoch and v.applied and not v.started}
    return sorted(node for node, view in following.items() if view.applied < reached)


def may_seal(missing: Collection[str], members: Collection[str], next_members: Collection[str]) -> bool:
    """A seal is final, so its next epoch must be able to run at once.

    A majority must be ready, and every member that is new: it may never be named before it holds a base.
    """
    ready = set(next_members) - set(missing)
    added = set(next_members) - set(members)
    return is_majority(ready, next_members) and added <= ready


def refuse_seal(missing: Collection[str], behind: Mapping[str, int]) -> Refused:
    """Why the members cannot change now; ``behind``: how many entries those lack that follow and lag."""
    if behind:
        who = ", ".join(f"{node} ({count} entries behind)" for node, count in sorted(behind.items()))
        return Refused(
            f"The managers of the swarm cannot be changed now: {who} is not yet up to date. It follows; try "
            "again in a few seconds. If it stays behind, its disk or its network is slower than the changes."
        )
    return Refused(
        f"The managers of the swarm cannot be changed now: {', '.join(missing)} cannot be reached or has not "
        "caught up yet, and without it the new group could not decide anything. Bring it back, or try again "
        "in a few seconds."
    )


def apart(ahead: Mapping[str, float], tolerance: float) -> frozenset[str]:
    """Whose wall clock is further than ``tolerance`` seconds from those of a majority, if one agrees.

    ``ahead``: by how much each is before the same one.
    """
    for one in ahead.values():
        agreeing = {node for node, other in ahead.items() if abs(other - one) <= tolerance}
        if is_majority(agreeing, ahead):
            return frozenset(ahead.keys() - agreeing)
    return frozenset()


def check_members(members: Mapping[str, str]) -> None:
    """Raises Invalid for a group that can never be."""
    if not 1 <= len(members) <= MAX_MEMBERS:
        raise Invalid(f"A swarm has 1 to {MAX_MEMBERS} managers, not {len(members)}.")
    for node_id, address in members.items():
        if not node_id or not is_address(address):
            raise Invalid(f"The address {address!r} of manager {node_id!r} must be ip:port.")


def is_address(text: str) -> bool:
    """``text`` is ``ip:port``, with brackets around an IPv6 address."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        return False
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
