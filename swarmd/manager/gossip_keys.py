"""Tell the core of the gossip key what it decides on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from swarmd.manager.core.gossip_keys import plan_gossip_key
from swarmd.manager.plan import Agenda, agenda
from swarmd.model.objects import Cluster, Node, RemovedNode
from swarmd.store.core.tables import Event
from swarmd.store.store import Store


class GossipKeyPlanner:
    """The only key is the swarm's id.  ``new_key`` makes a random key of 32 bytes."""

    def __init__(self, store: Store, new_key: Callable[[], bytes]) -> None:
        self._store = store
        self._new_key = new_key

    def reset(self) -> Iterable[str]:
        return [row.id for row in self._store.all(Cluster)]

    def touched(self, event: Event) -> Iterable[str]:
        # Nodes too: a removal waits for the last agent that would not follow.
        return self.reset() if event.kind in (Cluster, RemovedNode, Node) else ()

    def plan(self, keys: Collection[str], now: float) -> Agenda:
        cluster, removed = self._store.cluster(), self._store.all(RemovedNode)
        if cluster is None:
            return Agenda()
        nodes = self._store.all(Node)
        found = plan_gossip_key(cluster, removed, nodes, now=now, new_key=self._new_key)
        return agenda({cluster.id: found})
