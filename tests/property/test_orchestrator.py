from __future__ import annotations

import string
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.manager.orchestrator.core.draft import View
from swarmd.manager.orchestrator.core.service import plan_service
from swarmd.manager.plan import Plan
from swarmd.model.objects import Node, NodeStatus, Service, Task, TaskStatus, UpdateStatus
from swarmd.model.spec import NodeSpec, RestartPolicy, UpdateConfig
from swarmd.model.states import Availability, NodeState, TaskState, UpdateState
from swarmd.store.core.transaction import Put
from tests.scripts.sim import Sim, a_service

NODES = ("n1", "n2", "n3")
NOW = 1000.0

policies = st.builds(
    RestartPolicy,
    condition=st.sampled_from(["none", "on-failure", "any"]),
    delay=st.sampled_from([0.0, 5.0]),
    max_attempts=st.sampled_from([0, 1, 2]),
    window=st.sampled_from([0.0, 30.0]),
)
configs = st.builds(
    UpdateConfig,
    parallelism=st.integers(0, 3),
    delay=st.sampled_from([0.0, 3.0]),
    failure_action=st.sampled_from(["pause", "continue", "rollback"]),
    monitor=st.sampled_from([0.0, 5.0]),
    max_failure_ratio=st.sampled_from([0.0, 0.5]),
    order=st.sampled_from(["stop-first", "start-first"]),
)


@st.composite
def views(draw: st.DrawFn) -> View:
    """Any rows of one service, also such as no history leads to."""
    is_global = draw(st.booleans())
    spec = a_service(
        mode="global" if is_global else "replicated",
        replicas=draw(st.integers(0, 4)),
        restart=draw(policies),
        update=draw(configs),
        rollback=draw(configs),
    )
    status = draw(st.none() | st.builds(UpdateStatus, state=st.sampled_from(UpdateState)))
    service = Service(
        id="web", spec=spec, spec_version=2, update_status=status,
        previous_spec=draw(st.sampled_from([None, a_service(image="v0")])),
    )  # fmt: skip
    nodes = {
        name: Node(
            id=name,
            spec=NodeSpec(availability=draw(st.sampled_from(Availability))),
            status=NodeStatus(state=draw(st.sampled_from(NodeState))),
        )
        for name in draw(st.sets(st.sampled_from(NODES)))
    }
    count = draw(st.integers(0, 8))
    tasks = [draw(_tasks(string.ascii_lowercase[number], is_global=is_global)) for number in range(count)]
    return View(service=service, tasks=tasks, nodes=nodes)


@st.composite
def _tasks(draw: st.DrawFn, task_id: str, *, is_global: bool) -> Task:
    state = draw(st.sampled_from([s for s in TaskState if s != TaskState.REMOVE]))
    placed = is_global or state >= TaskState.ASSIGNED
    desired = draw(
        st.sampled_from([TaskState.READY, TaskState.RUNNING, TaskState.SHUTDOWN, TaskState.REMOVE])
    )
    return Task(
        id=task_id, version=1, service_id="web", service_name="web", spec_version=draw(st.integers(1, 2)),
        slot=0 if is_global else draw(st.integers(1, 5)),
        node_id=draw(st.sampled_from(NODES)) if placed else "",
        desired_state=desired,
        status=TaskStatus(state=state, at=draw(st.sampled_from([900.0, 990.0]))),
        start_at=draw(st.sampled_from([0.0, 995.0, 1005.0])),
        created_at=draw(st.sampled_from([890.0, 950.0, 980.0])),
    )  # fmt: skip


def apply(plan: Plan, view: View) -> View:
    """The rows after a plan is stored."""
    service = view.service
    tasks = {task.id: task for task in view.tasks}
    for step in plan.steps:
        for change in step:
            assert isinstance(change, Put)
            if isinstance(change.row, Service):
                service = change.row
            elif isinstance(change.row, Task):
                tasks[change.row.id] = change.row
    return View(service=service, tasks=list(tasks.values()), nodes=view.nodes)


def ids() -> Any:
    numbers = iter(range(1000))
    return lambda: f"new{next(numbers)}"


@settings(max_examples=200, deadline=None)
@given(views())
def test_planning_again_soon_comes_to_rest_and_then_changes_nothing(view: View) -> None:
    new_id = ids()
    # A slot handed on, a failure noted or an update begun may each allow the next move once.
    for _ in range(3):
        plan = plan_service(view, now=NOW, new_id=new_id)
        if not plan.steps:
            break
        view = apply(plan, view)
    assert plan_service(view, now=NOW, new_id=new_id).steps == ()


@settings(max_examples=200, deadline=None)
@given(views())
def test_no_row_is_changed_twice_in_a_plan_and_no_slot_is_torn(view: View) -> None:
    plan = plan_service(view, now=NOW, new_id=ids())
    rows = [change.row.id for step in plan.steps for change in step if isinstance(change, Put)]
    assert len(rows) == len(set(rows))
    for step in plan.steps:
        tasks = [c.row for c in step if isinstance(c, Put) and isinstance(c.row, Task)]
        assert len({task.slot or task.node_id for task in tasks}) <= 1


@settings(max_examples=200, deadline=None)
@given(views())
def test_a_replicated_service_has_one_slot_in_use_per_replica(view: View) -> None:
    if view.service.spec.mode == "global":
        return
    after = apply(plan_service(view, now=NOW, new_id=ids()), view)
    wanted = {task.slot for task in after.tasks if task.desired_state <= TaskState.RUNNING}
    assert len(wanted) <= after.service.spec.replicas or wanted <= {
        task.slot for task in view.tasks if task.desired_state <= TaskState.RUNNING
    }


@settings(max_examples=200, deadline=None)
@given(views())
def test_no_slot_has_two_live_tasks_of_one_version(view: View) -> None:
    after = apply(plan_service(view, now=NOW, new_id=ids()), view)
    live = [(task.slot or task.node_id, task.spec_version) for task in after.tasks if task.is_live]
    assert len(live) == len(set(live))


class Story:
    """A random life of two services in a swarm whose leader changes between any two commits."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.sim = Sim()
        self.order = data.draw(st.sampled_from(["stop-first", "start-first"]), "order")
        self.parallelism = data.draw(st.integers(1, 2), "parallelism")
        self.image = "v1"
        self.replicas = {"web": 3, "all": 0}
        self.changes = data.draw(st.sets(st.integers(0, 300), max_size=40), "leader changes at")
        self.commits = 0
        self.before: dict[str, int] = {}
        for name in NODES:
            self.sim.add_node(name)
        self.sim.create(self._spec("web"))
        self.sim.create(self._spec("all"))
        self.sim.after_commit = self._after_commit
        self._count()

    def _spec(self, name: str) -> Any:
        update = UpdateConfig(
            parallelism=self.parallelism, order=self.order,
            failure_action=self.data.draw(st.sampled_from(["pause", "rollback", "continue"])),
        )  # fmt: skip
        mode = "global" if name == "all" else "replicated"
        restart = RestartPolicy(delay=2.0)
        return a_service(
            name, image=self.image, replicas=self.replicas[name], mode=mode, update=update, restart=restart
        )

    def _count(self) -> None:
        self.before = {name: len(self.sim.live(name)) for name in self.replicas}

    def _after_commit(self) -> None:
        """No commit of a loop makes more tasks live than there may be."""
        for name in self.replicas:
            service = self.sim.service(name)
            slots = len(NODES) if name == "all" else service.spec.replicas
            extra = self.parallelism if self.order == "start-first" else 0
            live = len(self.sim.live(name))
            assert live <= max(self.before[name], slots + extra)
        self._count()
        self.commits += 1
        if self.commits in self.changes:
            self.sim.change_leader()

    def happen(self) -> None:
        """One thing."""
        choices = [
            "step",
            "step",
            "act",
            "settle",
            "advance",
            "fail",
            "node",
            "availability",
            "scale",
            "image",
        ]
        what = self.data.draw(st.sampled_from(choices))
        getattr(self, f"_{what}")()
        self._count()

    def _step(self) -> None:
        self.sim.step(self.data.draw(st.sampled_from(sorted(self.sim.planners))))

    def _act(self) -> None:
        self.sim.act()

    def _settle(self) -> None:
        self.sim.settle()

    def _advance(self) -> None:
        self.sim.advance(self.data.draw(st.sampled_from([1.0, 5.0, 61.0])))

    def _fail(self) -> None:
        running = sorted(task.id for task in self.sim.store.all(Task) if task.state == TaskState.RUNNING)
        if running:
            self.sim.fail(self.data.draw(st.sampled_from(running)))

    def _node(self) -> None:
        name = self.data.draw(st.sampled_from(NODES))
        self.sim.set_node(name, self.data.draw(st.sampled_from(NodeState)))

    def _availability(self) -> None:
        name = self.data.draw(st.sampled_from(NODES))
        self.sim.set_availability(name, self.data.draw(st.sampled_from(Availability)))

    def _scale(self) -> None:
        self.replicas["web"] = self.data.draw(st.integers(0, 5))
        self.sim.update("web", self._spec("web"))

    def _image(self) -> None:
        self.image = self.data.draw(st.sampled_from(["v1", "v2", "bad"]))
        self.sim.broken = {"bad"}
        self.sim.update("web", self._spec("web"))
        self.sim.update("all", self._spec("all"))

    def end_well(self) -> None:
        """Everything is repaired, and a last good version is wanted."""
        for name in NODES:
            self.sim.set_node(name, NodeState.READY)
            self.sim.set_availability(name, Availability.ACTIVE)
        self.sim.broken = set()
        self.image = "last"
        self.sim.update("web", self._spec("web"))
        self.sim.update("all", self._spec("all"))
        self._count()
        self.sim.advance(900.0)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_happened_and_whoever_led_in_the_end_what_is_wanted_runs(data: st.DataObject) -> None:
    story = Story(data)
    for _ in range(data.draw(st.integers(1, 25), "length")):
        story.happen()
    story.end_well()
    for name, count in (("web", story.replicas["web"]), ("all", len(NODES))):
        service = story.sim.service(name)
        live = story.sim.live(name)
        assert len(live) == count
        assert {task.state for task in live} <= {TaskState.RUNNING}
        assert {task.spec_version for task in live} <= {service.spec_version}
        state = service.update_status.state if service.update_status is not None else None
        assert state in {None, UpdateState.COMPLETED}
        slots = [task.slot or task.node_id for task in live]
        assert len(slots) == len(set(slots))
        ended = [task for task in story.sim.tasks(name) if not task.is_live]
        assert all(task.state.is_terminal or task.state < TaskState.ASSIGNED for task in ended)
