"""Tell the reaper's core which rows to look at."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from swarmd.manager.orchestrator.core.reaper import Remains, plan_reaping
from swarmd.manager.plan import Agenda, Plan, agenda
from swarmd.model.objects import Cluster, Node, Service, SpecVersion, Task
from swarmd.model.spec import ClusterSpec
from swarmd.store.core.tables import Event
from swarmd.store.store import Store


class ReaperPlanner:
    """Deletes what is of no use any more.  A key is a service's id, also of one that is gone."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def reset(self) -> Iterable[str]:
        return {
            *(service.id for service in self._store.all(Service)),
            *(task.service_id for task in self._store.all(Task)),
            *(version.service_id for version in self._store.all(SpecVersion)),
        }

    def touched(self, event: Event) -> Iterable[str]:
        row = event.new or event.old
        if isinstance(row, Service):
            return (row.id,)
        if isinstance(row, SpecVersion):
            return (row.service_id,)
        if isinstance(row, Task):
            return (row.service_id,) if _ends(row) else ()
        if isinstance(row, Node) and (event.new is None or row.removed or _changed_state(event)):
            return {task.service_id for task in self._store.tasks_of_node(row.id)}
        return self.reset() if isinstance(row, Cluster) else ()

    def plan(self, keys: Collection[str], now: float) -> Agenda:
        return agenda({key: self._plan(key, now) for key in keys})

    def _plan(self, service_id: str, now: float) -> Plan:
        tasks = self._store.tasks_of_service(service_id)
        nodes = (self._store.get(Node, node_id) for node_id in {task.node_id for task in tasks})
        cluster = self._store.cluster()
        remains = Remains(
            service=self._store.get(Service, service_id),
            tasks=tasks,
            versions=self._store.spec_versions_of(service_id),
            nodes={node.id: node for node in nodes if node is not None},
            history=(cluster.spec if cluster is not None else ClusterSpec()).task_history,
        )
        return plan_reaping(remains, now=now)


def _ends(task: Task) -> bool:
    """Only rows that were told to end are ever reaped; a new task lengthens its slot when it is told so."""
    return not task.is_live


def _changed_state(event: Event) -> bool:
    old, new = event.old, event.new
    return not isinstance(old, Node) or not isinstance(new, Node) or old.status.state != new.status.state
