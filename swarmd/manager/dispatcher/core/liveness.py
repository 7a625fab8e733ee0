"""Decide whether a node is ready, unknown, disconnected or down.  Told the time; answers when to look again.

    open session, heartbeats       ──► ready
    session lost                   ──► disconnected: nothing new is placed there, nothing is moved yet
    gossip says dead, or silence   ──► down: its tasks run elsewhere

A daemon that restarts within seconds is not a dead node: only the gossip verdict of the other nodes, or
three missed heartbeat periods, are.
"""

from __future__ import annotations

import msgspec

from swarmd.model.states import NodeState

MISSED_PERIODS = 3
TERM_GRACE = 3.0
"""A new leader has heard nobody yet: for this many seconds it does not believe gossip's old verdicts."""

BUSIEST = 500.0
"""Heartbeats per second that a leader accepts: the period grows with the swarm."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What the leader knows of one node.  Times are of one monotonic clock, in seconds.

    ``gossip``: "alive", "suspect", "dead", "left" or "" when gossip does not know the node.
    ``lost_at``: when its last session of this term ended; the term's start if there was none.
    """

    connected: bool
    last_seen: float
    lost_at: float
    term_start: float
    gossip: str = ""
    left: bool = False


class Verdict(msgspec.Struct, frozen=True):
    """The node's state, why, and when to judge again without any news (None = only on news)."""

    state: NodeState
    message: str = ""
    wake_at: float | None = None


def heartbeat_period(nodes: int, configured: float) -> float:
    """Seconds between heartbeats: a second in a small swarm, never more than what is configured."""
    return min(configured, max(1.0, nodes / BUSIEST))


class Patience(msgspec.Struct, frozen=True):
    """The heartbeat that nodes are judged by; ``lowered_at``: when a shorter one was configured."""

    seconds: float
    lowered_at: float | None = None


def patience(before: Patience | None, configured: float, now: float) -> Patience:
    """A longer heartbeat counts at once, a shorter one when the nodes have had the longer one's time to hear
    of it: until then they keep to what they were told before."""
    if before is None or configured >= before.seconds:
        return Patience(configured)
    lowered_at = now if before.lowered_at is None else before.lowered_at
    if now - lowered_at >= MISSED_PERIODS * before.seconds:
        return Patience(configured)
    return Patience(before.seconds, lowered_at)


def judge(evidence: Evidence, *, now: float, period: float, configured: float) -> Verdict:
    """The state of one node at ``now``; ``period`` is the heartbeat in force, ``configured`` the setting."""
    silence = MISSED_PERIODS * max(period, configured)
    if evidence.left:
        return Verdict(NodeState.DOWN, "node left the swarm")
    if evidence.connected:
        return _judge_connected(evidence, now, period, silence)
    if evidence.gossip in ("dead", "left") and now >= evidence.term_start + TERM_GRACE:
        return Verdict(NodeState.DOWN, "the other nodes cannot reach it")
    deadline = evidence.lost_at + silence
    if now >= deadline:
        return Verdict(NodeState.DOWN, "heartbeat failure")
    grace_end = evidence.term_start + TERM_GRACE
    wake_at = min(deadline, grace_end) if now < grace_end else deadline
    if evidence.lost_at <= evidence.term_start:
        return Verdict(NodeState.UNKNOWN, "not heard of since the leader changed", wake_at)
    return Verdict(NodeState.DISCONNECTED, "its connection to the managers is lost", wake_at)


def _judge_connected(evidence: Evidence, now: float, period: float, silence: float) -> Verdict:
    quiet_limit = evidence.last_seen + 2 * period
    if evidence.gossip == "dead" and now >= quiet_limit:
        return Verdict(NodeState.DOWN, "the other nodes cannot reach it and its heartbeats stopped")
    deadline = evidence.last_seen + silence
    if now >= deadline:
        return Verdict(NodeState.DOWN, "heartbeat failure")
    return Verdict(NodeState.READY, "", quiet_limit if evidence.gossip == "dead" else deadline)
