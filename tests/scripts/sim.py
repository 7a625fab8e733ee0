"""A swarm in virtual time: the real planners and tables, agents that obey at once, no asyncio.

One :meth:`Sim.step` is one planner deciding and one of its steps being stored, so a test can change leaders
between any two commits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from swarmd.manager.allocator.allocating import AllocatorPlanner
from swarmd.manager.loop import Planner
from swarmd.manager.orchestrator.enforcing import EnforcerPlanner
from swarmd.manager.orchestrator.reaping import ReaperPlanner
from swarmd.manager.orchestrator.services import ServicePlanner
from swarmd.manager.plan import Step
from swarmd.manager.scheduler.scheduling import SchedulerPlanner
from swarmd.model.objects import (
    FEATURE_LEVEL,
    Cluster,
    Node,
    NodeDescription,
    NodeStatus,
    Row,
    Service,
    SpecVersion,
    Task,
    spec_version_id,
)
from swarmd.model.replace import replace
from swarmd.model.spec import (
    ClusterSpec,
    ContainerSpec,
    NodeSpec,
    Placement,
    Resources,
    RestartPolicy,
    ServiceSpec,
    TaskTemplate,
)
from swarmd.model.states import Availability, NodeState, Role, TaskState
from swarmd.model.versions import number_for
from swarmd.store.core.invariants import invariants
from swarmd.store.core.tables import Outcome
from swarmd.store.core.transaction import Change, Delete, Put, Transaction
from swarmd.store.store import Store, StoreState

CORE = 10**9
GIB = 1 << 30
START = 1000.0


class SimClock:
    """The simulation's own time."""

    def __init__(self) -> None:
        self.seconds = START

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the simulation never sleeps")


class NoProposer:
    """Commits go to the tables directly."""

    async def propose(self, command: bytes, *, timeout: float = 10.0) -> object:
        raise AssertionError("the simulation never proposes")


class Sim:
    """Nodes, services, the five planners, and obedient agents."""

    def __init__(self, *, task_history: int = 5) -> None:
        self.clock = SimClock()
        self.state = StoreState()
        self.store = Store(self.state, NoProposer(), self.clock)
        self.broken: set[str] = set()
        self.after_commit: Callable[[], None] = lambda: None
        self._ids = 0
        self.planners: dict[str, Planner] = {}
        self.dirty: dict[str, dict[str, None]] = {}
        self.wakes: dict[str, dict[str, float]] = {}
        self.change_leader()
        self.put(Cluster(id="cluster", spec=ClusterSpec(task_history=task_history)))

    @property
    def now(self) -> float:
        return self.clock.seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the simulation began."""
        return self.now - START

    def new_id(self) -> str:
        self._ids += 1
        return f"t{self._ids}"

    def change_leader(self) -> None:
        """Every loop starts again, knowing the store and nothing else."""
        self.planners = {
            "services": ServicePlanner(self.store, self.new_id),
            "allocator": AllocatorPlanner(self.store),
            "scheduler": SchedulerPlanner(self.store),
            "reaper": ReaperPlanner(self.store),
            "enforcer": EnforcerPlanner(self.store),
        }
        self.dirty = {name: dict.fromkeys(p.reset()) for name, p in self.planners.items()}
        self.wakes = {name: {} for name in self.planners}

    # rows

    def commit(self, changes: Iterable[Change], *, by_hand: bool = False) -> Outcome:
        """Store changes, as the log would; every planner hears of them.

        No planner breaks a rule of the tables; what a test writes ``by_hand`` may.
        """
        before = set(invariants(self.state.tables))
        transaction = Transaction(self.now, tuple(changes), FEATURE_LEVEL)
        outcome = self.state.tables.apply(self.store.index + 1, transaction)
        assert by_hand or set(invariants(self.state.tables)) <= before
        for event in outcome.events:
            for name, planner in self.planners.items():
                self.dirty[name].update(dict.fromkeys(planner.touched(event)))
        return outcome

    def put(self, *rows: Row) -> None:
        """Store rows; anything but success is an error of the test."""
        outcome = self.commit((Put(row) for row in rows), by_hand=True)
        assert not outcome.error_kind, outcome.error

    def service(self, name: str) -> Service:
        found = self.store.service_by_name(name)
        assert found is not None
        return found

    def tasks(self, name: str) -> list[Task]:
        """All tasks of a service, by slot and age."""
        rows = self.store.tasks_of_service(name)
        return sorted(rows, key=lambda t: (t.slot, t.node_id if not t.slot else "", t.created_at, t.id))

    def live(self, name: str) -> list[Task]:
        return [task for task in self.tasks(name) if task.is_live]

    def task(self, task_id: str) -> Task:
        found = self.store.get(Task, task_id)
        assert found is not None, task_id
        return found

    def node(self, node_id: str) -> Node:
        found = self.store.get(Node, node_id)
        assert found is not None, node_id
        return found

    # what users and machines do

    def add_node(self, name: str, *, cpus: int = 64, labels: dict[str, str] | None = None) -> None:
        description = NodeDescription(
            hostname=name, nano_cpus=cpus * CORE, memory=64 * GIB, feature_level=FEATURE_LEVEL
        )
        spec = NodeSpec(labels=labels or {})
        status = NodeStatus(state=NodeState.READY)
        self.put(Node(id=name, spec=spec, role=Role.WORKER, description=description, status=status))

    def set_node(self, name: str, state: NodeState) -> None:
        node = self.node(name)
        self.put(replace(node, status=replace(node.status, state=state)))

    def set_availability(self, name: str, availability: Availability) -> None:
        node = self.node(name)
        self.put(replace(node, spec=replace(node.spec, availability=availability)))

    def set_labels(self, name: str, labels: dict[str, str]) -> None:
        node = self.node(name)
        self.put(replace(node, spec=replace(node.spec, labels=labels)))

    def create(self, spec: ServiceSpec) -> None:
        """A new service; its id is its name."""
        self.put(Service(id=spec.name, spec=spec), self._version(spec, 1))

    def update(self, name: str, spec: ServiceSpec) -> None:
        """A new spec; a new version of it when tasks have to be replaced."""
        service = self.service(name)
        changed = (spec.template, spec.ports) != (service.spec.template, service.spec.ports)
        number, exists = service.spec_version, True
        if changed:
            number, exists = number_for(spec.template, spec.ports, self.store.spec_versions_of(service.id))
        after = replace(
            service, spec=spec, spec_version=number, previous_spec=service.spec,
            update_status=None if changed else service.update_status,
        )  # fmt: skip
        self.put(after, *([] if exists else [self._version(spec, number)]))

    def remove(self, name: str) -> None:
        service = self.service(name)
        assert not self.commit([Delete(Service, service.id, service.version)]).error_kind

    def _version(self, spec: ServiceSpec, number: int) -> SpecVersion:
        return SpecVersion(
            id=spec_version_id(spec.name, number), service_id=spec.name, number=number,
            template=spec.template, ports=spec.ports,
        )  # fmt: skip

    def report(self, task_id: str, state: TaskState, error: str = "") -> None:
        """What an agent says of its task."""
        task = self.task(task_id)
        status = replace(task.status, state=state, at=self.now, error=error)
        self.put(replace(task, status=status))

    def fail(self, task_id: str, state: TaskState = TaskState.FAILED) -> None:
        self.report(task_id, state, "task: non-zero exit (1)")

    # the course of things

    def plan(self, name: str) -> tuple[Step, ...]:
        """Let a planner decide about what is dirty; nothing is stored."""
        keys = list(self.dirty[name])
        self.dirty[name].clear()
        agenda = self.planners[name].plan(keys, self.now)
        for key in keys:
            self.wakes[name].pop(key, None)
        self.wakes[name].update(agenda.wakes)
        return agenda.steps

    def step(self, name: str) -> bool:
        """Let a planner decide and store its first step; true if there was one."""
        keys = list(self.dirty[name])
        steps = self.plan(name)
        if not steps:
            return False
        outcome = self.commit(steps[0])
        assert not outcome.error_kind, outcome.error
        self.dirty[name].update(dict.fromkeys(keys))
        self.after_commit()
        return True

    def act(self) -> bool:
        """Every agent brings its tasks one state further; true if any moved."""
        moved = False
        for task in sorted(self.store.all(Task), key=lambda task: task.id):
            node = self.store.get(Node, task.node_id) if task.node_id else None
            if node is not None and node.status.state == NodeState.READY:
                moved = self._obey(task) or moved
        return moved

    def _obey(self, task: Task) -> bool:
        if task.state.is_terminal or task.state < TaskState.ASSIGNED:
            return False
        if task.desired_state > TaskState.RUNNING:
            self.report(task.id, TaskState.SHUTDOWN)
        elif task.state < TaskState.READY:
            version = self.store.spec_version(task.service_id, task.spec_version)
            image = version.template.container.image if version else ""
            bad = image in self.broken
            self.report(task.id, *((TaskState.REJECTED, "no such image") if bad else (TaskState.READY, "")))
        elif task.state < TaskState.RUNNING and task.desired_state == TaskState.RUNNING:
            self.report(task.id, TaskState.RUNNING)
        else:
            return False
        return True

    def think(self) -> None:
        """Let the loops run until they have nothing to do now."""
        for _ in range(20_000):
            worked = [self.step(name) for name in self.planners]
            if not any(worked):
                return
        raise AssertionError("the loops never come to rest")

    def settle(self) -> None:
        """Loops and agents, until nothing moves without the clock."""
        self.think()
        while self.act():
            self.think()

    def next_wake(self) -> float | None:
        """When something happens by itself; None = never."""
        times = [when for wakes in self.wakes.values() for when in wakes.values()]
        return min(times, default=None)

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping wherever a loop asked to be woken."""
        end = self.now + seconds
        self.settle()
        while (when := self.next_wake()) is not None and when <= end:
            self.clock.seconds = max(self.now, when)
            for name, wakes in self.wakes.items():
                due = [key for key, at in wakes.items() if at <= self.now]
                for key in due:
                    del wakes[key]
                self.dirty[name].update(dict.fromkeys(due))
            self.settle()
        self.clock.seconds = end


def a_service(
    name: str = "web",
    *,
    image: str = "v1",
    restart: RestartPolicy | None = None,
    constraints: tuple[str, ...] = (),
    max_replicas: int = 0,
    cpus: float = 0,
    memory: int = 0,
    **fields: Any,
) -> ServiceSpec:
    """A spec; ``fields`` are those of ServiceSpec."""
    template = TaskTemplate(
        container=ContainerSpec(image=image),
        restart=restart or RestartPolicy(),
        placement=Placement(constraints=constraints, max_replicas=max_replicas),
        reservations=Resources(nano_cpus=int(cpus * CORE), memory=memory),
    )
    return ServiceSpec(name=name, template=template, **fields)


def a_swarm(nodes: int = 3, **settings: int) -> Sim:
    """A swarm of nodes n1, n2, ... that are ready."""
    sim = Sim(**settings)
    for number in range(1, nodes + 1):
        sim.add_node(f"n{number}")
    return sim
