"""Decide the next step from one root certificate to the next.

    trust ── every node that is not down trusts the new root ──► issue
    issue ── every node, down or not, is certified by it      ──► the new root is the only one

Everything that must survive is in the swarm's row and in what nodes say of themselves; a new leader goes on
with the same decision.  Which nodes are asked just now need not survive: asking twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from swarmd.model.objects import Cluster, Node
from swarmd.model.replace import replace
from swarmd.model.states import NodeState, RotationPhase
from swarmd.security import issuing

BATCH = 30
"""Nodes that renew at the same time, as in Swarm: each renewal is two signatures and a new session."""

SLOT = 30.0
"""Seconds after which a node that was asked holds up nobody else any more; it stays asked."""


class Steps(msgspec.Struct, frozen=True):
    """The row to write, if the swarm goes on, and who is asked to renew: node id -> since when (seconds)."""

    cluster: Cluster | None = None
    asked: Mapping[str, float] = {}


def plan(cluster: Cluster, nodes: Iterable[Node], asked: Mapping[str, float], now: float) -> Steps:
    """One look.  ``asked``: the answer of the last look, {} at first.  ``now``: monotonic seconds."""
    target = issuing.target(cluster)
    if target is None or cluster.rotation is None:
        return Steps()
    members = sorted((node for node in nodes if not node.removed), key=lambda node: node.number)
    if cluster.rotation.phase is RotationPhase.TRUST:
        up = [node for node in members if node.status.state is not NodeState.DOWN]
        if not all(target.is_trusted_by(node) for node in up):
            return Steps()
        return Steps(cluster=replace(cluster, rotation=replace(cluster.rotation, phase=RotationPhase.ISSUE)))
    left = [node for node in members if not target.has_certified(node) or not target.is_trusted_by(node)]
    if not left:
        return Steps(cluster=_finished(cluster))
    return Steps(asked=_asked([node for node in left if not target.has_certified(node)], asked, now))


def _asked(left: Iterable[Node], asked: Mapping[str, float], now: float) -> dict[str, float]:
    ready = [node.id for node in left if node.status.state is NodeState.READY]
    chosen = {node_id: asked[node_id] for node_id in ready if node_id in asked}
    busy = sum(now - since < SLOT for since in chosen.values())
    for node_id in ready:
        if busy >= BATCH:
            break
        if node_id not in chosen:
            chosen[node_id] = now
            busy += 1
    return chosen


def _finished(cluster: Cluster) -> Cluster:
    assert cluster.rotation is not None
    return replace(cluster, root_ca=cluster.rotation.root_ca, ca_key=cluster.rotation.ca_key, rotation=None)
