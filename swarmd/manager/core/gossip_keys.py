"""Decide when the swarm's gossip gets another key: after a node was removed, which knows the one there is.

    removed ──► spread: all accept the new key ──► retire: all use it, the old one is accepted ──► done

Nobody is cut off: a key is used only when every node has had the time to hear of it, and one that hears late
is understood as long again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from swarmd.manager.plan import Plan
from swarmd.model.objects import Cluster, GossipChange, Node, RemovedNode
from swarmd.model.replace import replace
from swarmd.model.states import NodeState
from swarmd.store.core.transaction import Put

PHASE_SECONDS = 10.0
"""Sessions tell it in well under a second; this leaves time for a change of leaders."""

LEVEL = 2
"""The feature level from which managers store a change of the key, and agents follow one."""

SPREAD, RETIRE = "spread", "retire"


def plan_gossip_key(
    cluster: Cluster,
    removed: Iterable[RemovedNode],
    nodes: Iterable[Node],
    *,
    now: float,
    new_key: Callable[[], bytes],
) -> Plan:
    """The next step of a change of the key, if one is due or wanted."""
    if cluster.gossip_change is not None:
        return _go_on(cluster, cluster.gossip_change, now)
    newest = max((row.version for row in removed), default=0)
    if newest <= cluster.gossip_removed or not cluster.gossip_key or not _is_understood(cluster, nodes):
        return Plan()
    change = GossipChange(phase=SPREAD, key=new_key(), at=now)
    return _put(replace(cluster, gossip_change=change, gossip_removed=newest))


def _go_on(cluster: Cluster, change: GossipChange, now: float) -> Plan:
    due = change.at + PHASE_SECONDS
    # A time in the future is that of another manager's clock: it says nothing.
    if change.at <= now < due:
        return Plan(wake_at=due)
    if change.phase == SPREAD:
        old = GossipChange(phase=RETIRE, key=cluster.gossip_key, at=now)
        return _put(replace(cluster, gossip_key=change.key, gossip_change=old))
    return _put(replace(cluster, gossip_change=None))


def _is_understood(cluster: Cluster, nodes: Iterable[Node]) -> bool:
    """An agent of an earlier version would keep the key it began with, and be alone with it."""
    present = [node for node in nodes if node.status.state is not NodeState.DOWN]
    return cluster.feature_level >= LEVEL and all(node.description.feature_level >= LEVEL for node in present)


def _put(cluster: Cluster) -> Plan:
    return Plan(steps=((Put(cluster),),))
