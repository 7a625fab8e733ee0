"""Feed the scheduler's picture of the swarm with rows and events, and ask it for placements."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from swarmd.manager.loop import node_matters
from swarmd.manager.plan import Agenda
from swarmd.manager.scheduler.core.placement import plan_groups
from swarmd.manager.scheduler.core.swarm import Swarm
from swarmd.model.objects import Node, SpecVersion, Task, spec_version_id
from swarmd.store.core.tables import Event
from swarmd.store.store import Store


class SchedulerPlanner:
    """Gives every pending task a node.  A key is a group of like tasks: a spec version's row id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._swarm = Swarm(store.spec_version)

    def reset(self) -> Iterable[str]:
        self._swarm = Swarm(self._store.spec_version)
        return self._swarm.load(self._store.all(Node), self._store.all(Task))

    def touched(self, event: Event) -> Iterable[str]:
        old, new = event.old, event.new
        if isinstance(new, Node):
            groups = self._swarm.set_node(new)
            return groups if node_matters(old, new) else ()
        if isinstance(old, Node):
            return self._swarm.drop_node(old.id)
        if isinstance(new, SpecVersion):
            return (spec_version_id(new.service_id, new.number),)
        if isinstance(new, Task) or isinstance(old, Task):
            return self._swarm.set_task(
                old if isinstance(old, Task) else None, new if isinstance(new, Task) else None
            )
        return ()

    def plan(self, keys: Collection[str], now: float) -> Agenda:
        return Agenda(steps=plan_groups(self._swarm, keys, now=now).steps)
