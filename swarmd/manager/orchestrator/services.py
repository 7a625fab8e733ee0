"""Tell the services' core which rows to look at, and when to look again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from swarmd.manager.loop import node_matters
from swarmd.manager.orchestrator.core.draft import View, plan_removed
from swarmd.manager.orchestrator.core.service import plan_service
from swarmd.manager.plan import Agenda, Plan, agenda
from swarmd.model.network import attachments
from swarmd.model.objects import Network, Node, Secret, Service, Task
from swarmd.model.spec import ServiceSpec
from swarmd.model.states import TaskState
from swarmd.model.waiting import waits_for_its_own
from swarmd.store.core.tables import Event
from swarmd.store.core.transaction import Put
from swarmd.store.store import Store


class ServicePlanner:
    """Keeps every service as its spec says.  A key is a service's id."""

    def __init__(self, store: Store, new_id: Callable[[], str]) -> None:
        self._store = store
        self._new_id = new_id

    def reset(self) -> Iterable[str]:
        return {
            *(service.id for service in self._store.all(Service)),
            *(task.service_id for task in self._store.all(Task)),
        }

    def touched(self, event: Event) -> Iterable[str]:
        row = event.new or event.old
        if isinstance(row, Service):
            return (row.id,)
        if isinstance(row, Task) and _matters(event.old, event.new):
            return (row.service_id,)
        if isinstance(row, Node) and node_matters(event.old, event.new):
            return self._services_of_node(row.id)
        return ()

    def plan(self, keys: Collection[str], now: float) -> Agenda:
        plans: dict[str, Plan] = {}
        held: set[str] = set()
        for key in keys:
            plan = self._plan(key, now)
            ids = _networks_in(plan)
            # A row is written once in a transaction: of two that go back to one network the other waits.
            plans[key] = plan if held.isdisjoint(ids) else Plan(wake_at=now)
            held |= ids
        return agenda(plans)

    def _plan(self, service_id: str, now: float) -> Plan:
        service = self._store.get(Service, service_id)
        tasks = self._store.tasks_of_service(service_id)
        if service is None:
            return plan_removed(tasks)
        versions = {version.number: version for version in self._store.spec_versions_of(service_id)}
        view = View(
            service=service,
            tasks=tasks,
            nodes=self._nodes(service, tasks),
            versions=versions,
            no_way_back=self._lack(service.previous_spec),
            way_back=self._networks(service.previous_spec),
        )
        return plan_service(view, now=now, new_id=self._new_id)

    def _nodes(self, service: Service, tasks: Iterable[Task]) -> Mapping[str, Node]:
        if service.spec.mode == "global":
            return {node.id: node for node in self._store.all(Node)}
        found = (self._store.get(Node, node_id) for node_id in {task.node_id for task in tasks})
        return {node.id: node for node in found if node is not None}

    def _lack(self, spec: ServiceSpec | None) -> str:
        """What a spec names that was removed since: those in use are kept, and it is not in use."""
        if spec is None:
            return ""
        for one in attachments(spec.template.networks):
            if self._store.get(Network, one.target) is None:
                return f"network {one.target}, which the previous spec names, was removed"
        for port in spec.ports:
            if port.tls and not (self._store.get(Secret, port.tls) or self._store.secret_by_name(port.tls)):
                return f"secret {port.tls}, which the previous spec names, was removed"
        return ""

    def _networks(self, spec: ServiceSpec | None) -> tuple[Network, ...]:
        """Those that a spec names and that there are."""
        wanted = sorted({one.target for one in attachments(spec.template.networks)}) if spec else ()
        found = (self._store.get(Network, target) for target in wanted)
        return tuple(row for row in found if row is not None)

    def _services_of_node(self, node_id: str) -> set[str]:
        here = {task.service_id for task in self._store.tasks_of_node(node_id)}
        return here | {service.id for service in self._store.all(Service) if service.spec.mode == "global"}


def _networks_in(plan: Plan) -> set[str]:
    changes = (one for step in plan.steps for one in step)
    return {one.row.id for one in changes if isinstance(one, Put) and isinstance(one.row, Network)}


def _matters(old: object, new: object) -> bool:
    """A task on its way up is nobody's business, unless it waits for an older one of its slot."""
    if not isinstance(old, Task) or not isinstance(new, Task):
        return True
    return _seen(old) != _seen(new)


def _seen(task: Task) -> tuple[TaskState, int, bool]:
    return task.desired_state, _stage(task), waits_for_its_own(task)


def _stage(task: Task) -> int:
    return (task.state >= TaskState.RUNNING) + task.state.is_terminal
