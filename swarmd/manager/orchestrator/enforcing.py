"""Tell the enforcer's core which nodes to look at."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from swarmd.manager.loop import node_matters
from swarmd.manager.orchestrator.core.enforcer import plan_enforcing
from swarmd.manager.plan import Agenda, Plan, agenda
from swarmd.model.objects import Node, SpecVersion
from swarmd.store.core.tables import Event
from swarmd.store.store import Store


class EnforcerPlanner:
    """Rejects tasks that their node does not suit any more.  A key is a node's id."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def reset(self) -> Iterable[str]:
        return [node.id for node in self._store.all(Node)]

    def touched(self, event: Event) -> Iterable[str]:
        if isinstance(event.new, Node) and node_matters(event.old, event.new):
            return (event.new.id,)
        if isinstance(event.new, SpecVersion) and event.old is not None:
            tasks = self._store.tasks_of_service(event.new.service_id)
            return {task.node_id for task in tasks if task.node_id}
        return ()

    def plan(self, keys: Collection[str], now: float) -> Agenda:
        return agenda({key: self._plan(key, now) for key in keys})

    def _plan(self, node_id: str, now: float) -> Plan:
        node = self._store.get(Node, node_id)
        if node is None:
            return Plan()
        tasks = self._store.tasks_of_node(node_id)
        constraints = {}
        for service_id, number in {(task.service_id, task.spec_version) for task in tasks}:
            version = self._store.spec_version(service_id, number)
            if version is not None:
                constraints[service_id, number] = version.template.placement.constraints
        return plan_enforcing(node, tasks, constraints, now=now)
