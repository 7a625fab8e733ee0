"""What the rest of the house sees of replication: a state machine to feed, and a proposer to ask."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Literal, Protocol

import msgspec

from swarmd.model.errors import Invalid, OutcomeUnknown, Unavailable

StateView = Callable[[], Iterable[bytes]]
"""Called in another thread, gives the state in pieces, each of a few milliseconds' work at most."""

Role = Literal["leader", "follower", "candidate", "learner", "stopped"]

NO_LEADER = (
    "The swarm does not have a leader. It's possible that too few managers are online. "
    "Make sure more than half of the managers are online."
)
MAX_COMMAND_BYTES = 1 << 20


class StateMachine(Protocol):
    """The replicated state.  All three methods are called on the event loop and must not block."""

    def apply(self, index: int, command: bytes) -> object:
        """Apply ``command`` deterministically and answer its result; never raises.

        ``index`` counts applied commands from 1 across all epochs and is the same on every member.
        """
        ...

    def view(self) -> StateView:
        """The state as it is now, to be turned into bytes later, while commands are applied; quick.

        The bytes are the same on every member after the same commands.
        """
        ...

    def restore(self, index: int, data: bytes) -> None:
        """Replace the state by what a view gave after ``index`` commands (0: as bootstrapped)."""
        ...


class RaftStatus(msgspec.Struct, frozen=True):
    """What a member knows of itself and its group.

    ``term`` counts within ``epoch``; ``members`` maps node id to ``ip:port``; ``concerned`` holds the members
    of every epoch that matters still, ``reachable`` the peers heard lately; ``applied`` counts commands;
    ``problem`` says why a stopped member stopped, and ``warnings`` what a working one cannot do.
    ``age``: what it holds is what the swarm had agreed upon at most so many seconds ago; None when it has
    heard of no leader since it started.  ``short`` holds those in ``reachable`` whose disk is nearly full,
    ``apart`` those whose clock is not that of most others.
    """

    role: Role
    term: int
    epoch: int
    leader: str | None
    members: dict[str, str]
    reachable: frozenset[str]
    applied: int
    has_quorum: bool
    problem: str | None = None
    warnings: tuple[str, ...] = ()
    age: float | None = 0.0
    concerned: frozenset[str] = frozenset()
    short: frozenset[str] = frozenset()
    apart: frozenset[str] = frozenset()


class Proposer(Protocol):
    """The way to change the replicated state.  Only the leader answers; forwarding is done elsewhere."""

    async def propose(self, command: bytes, *, timeout: float = 10.0) -> object:
        """The result of applying ``command`` (at most 1 MiB) here, once it is durable on a majority.

        Raises Unavailable: not the leader, no quorum, disk nearly full; OutcomeUnknown when it may yet be
        applied.
        """
        ...

    async def read_index(self, *, timeout: float = 10.0) -> int:
        """Return when this member, leader or not, has applied all that was acknowledged before the call.

        Answers how many commands that is; what is read here after that is linearizable.  Raises Unavailable:
        no leader that a majority follows, this member is far behind, or it stopped.
        """
        ...

    async def change_members(self, members: Mapping[str, str], *, timeout: float = 20.0) -> None:
        """Make ``members`` (node id to ``ip:port``, 1 to 7) the group.

        Raises Refused when a majority of them is not connected and current, Unavailable otherwise.
        """
        ...

    async def transfer(self, among: Collection[str] = ()) -> None:
        """Give leadership to the most current other member, or to one of ``among`` when some are named.

        Raises Unavailable when that fails.
        """
        ...

    def status(self) -> RaftStatus: ...

    def is_leader(self) -> bool:
        """True from when this member's term is applied until it ends."""
        ...

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the loop whenever role, leader or members changed."""
        ...


def check_size(command: bytes) -> None:
    """Raises Invalid for one that is too large."""
    if len(command) > MAX_COMMAND_BYTES:
        raise Invalid(
            f"The change has {len(command)} bytes; at most {MAX_COMMAND_BYTES} fit into one. Split it."
        )


class NoLeader(Unavailable):
    """Nobody leads, as far as this member knows."""


def no_leader() -> NoLeader:
    """With the sentence for it."""
    return NoLeader(NO_LEADER)


def not_leader(leader: str | None) -> Unavailable:
    """This member does not lead; says who does."""
    if leader is None:
        return no_leader()
    return Unavailable(f"This manager is not the leader of the swarm; manager {leader} is. Ask that one.")


def outcome_unknown(why: str) -> OutcomeUnknown:
    """The entry is in a log somewhere and may yet win."""
    return OutcomeUnknown(f"{why} The change may have been applied; look before trying again.")
