"""Calls that only look, answered by the manager that was asked, so that the leader is spared.

    look ──► how far must I have applied? (the leader says) ──► applied ──► answered here: linearizable
    look, stale ──► answered here at once, with how old it may be: also without a leader

What only the leader knows, who of the managers it reaches, is asked of the leader; a stale call is told what
this manager sees of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from swarmd.model.errors import Unavailable
from swarmd.rpc.staleness import AGE_KEY, LEADER_KEY, READ_KEY, STALE
from swarmd.store.raft.port import NO_LEADER, RaftStatus

CONTROL = "/swarmd.rpc.v1.Control/"
TRUST = "/swarmd.rpc.v1.Trust/"
NETWORKS = "/swarmd.rpc.v1.Networks/"
SECRETS = "/swarmd.rpc.v1.Secrets/"
PASSED_ON = (CONTROL, TRUST, NETWORKS, SECRETS)
"""Services whose calls only the leader can answer, but for the reads below."""

READS = tuple(service + verb for service in PASSED_ON for verb in ("Get", "List"))
STREAMS = frozenset({CONTROL + "Logs", CONTROL + "SaveSnapshot", CONTROL + "PreloadImage"})
ANYWHERE = frozenset({CONTROL + "Watch"})
"""Answered by whichever manager is asked, as far as it is."""

OF_THE_LEADER = frozenset({CONTROL + "GetCluster", CONTROL + "GetNode", CONTROL + "ListNodes"})
"""They tell who of the managers can be reached."""

CATCH_UP = 2.0
"""Seconds that a manager tries to be as new as the leader; then it passes the call on."""

HINT = (
    " What this manager knows can be seen all the same: `swarmctl --stale …` asks nobody, "
    "and says how old its answer may be."
)


class Replica(Protocol):
    """The part of the Raft port that reads need."""

    def is_leader(self) -> bool: ...

    def status(self) -> RaftStatus: ...

    async def read_index(self, *, timeout: float = 10.0) -> int: ...


Here = Callable[[], Replica]
"""This node's, while it is a manager; raises SwarmError when it is none."""


def only_looks(method: str) -> bool:
    """It changes nothing: it may be asked twice, and of any manager."""
    return method.startswith(READS)


def wants_stale(method: str, context: Any) -> bool:
    """The caller takes what this manager holds, however old."""
    looks = only_looks(method) or method in STREAMS
    return looks and dict(context.invocation_metadata() or ()).get(READ_KEY) == STALE


def tell_age(context: Any, status: RaftStatus) -> None:
    """Say with the answer how old it may be."""
    pairs = [(LEADER_KEY, status.leader or "")]
    if status.age is not None:
        pairs.append((AGE_KEY, f"{status.age:.3f}"))
    context.set_trailing_metadata(tuple(pairs))


async def is_current(method: str, replica: Replica, *, passed_on: bool) -> bool:
    """Whether what this manager holds now is as new as this call, and the call is one that it may answer."""
    elsewhere = passed_on or method in OF_THE_LEADER or replica.status().leader is None
    if elsewhere and not replica.is_leader():
        return False
    try:
        await replica.read_index(timeout=CATCH_UP)
    except Unavailable:
        return False
    # Leadership may be another's by now; what this one holds is as new as it was asked for all the same.
    return method not in OF_THE_LEADER or replica.is_leader()


def no_leader_to_read() -> Unavailable:
    """Nobody leads; says what can be had without."""
    return Unavailable(NO_LEADER + HINT)
