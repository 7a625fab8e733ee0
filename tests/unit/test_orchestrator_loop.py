from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence

import pytest

from swarmd.manager.allocator.allocating import AllocatorPlanner
from swarmd.manager.loop import CHANGES, ControlLoop, Planner
from swarmd.manager.orchestrator.reaping import ReaperPlanner
from swarmd.manager.orchestrator.services import ServicePlanner
from swarmd.manager.plan import Agenda
from swarmd.manager.scheduler.scheduling import SchedulerPlanner
from swarmd.model.errors import Unavailable
from swarmd.model.objects import (
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
from swarmd.model.spec import PortSpec, ServiceSpec, UpdateConfig
from swarmd.model.states import NodeState, TaskState
from swarmd.store.core.tables import Event
from swarmd.store.core.transaction import Change, Put, encode_rows
from swarmd.store.raft.single import SingleProposer
from swarmd.store.store import Store, StoreState
from tests.scripts.sim import a_service


class ManualClock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + max(0.0, seconds), id(woken), woken))
        await woken

    def advance(self, seconds: float) -> None:
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)


class World:
    """A store of one manager, with loops running on it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.state = StoreState()
        self.store = Store(self.state, SingleProposer(self.state), self.clock)
        self._ids = 0

    def new_id(self) -> str:
        self._ids += 1
        return f"t{self._ids}"

    async def put(self, *rows: Row) -> None:
        await self.store.commit([Put(row) for row in rows])

    async def create(self, spec: ServiceSpec) -> None:
        await self.put(Service(id=spec.name, spec=spec), a_version(spec, 1))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loops work until something is so; a hang is the test's failure."""
        async with asyncio.timeout(60):
            watch = self.store.watch()
            while not condition():
                await watch.next()

    @contextlib.asynccontextmanager
    async def running(self, *planners: Planner) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            loops = [group.create_task(ControlLoop(self.store, self.clock, p).run()) for p in planners]
            yield
            for loop in loops:
                loop.cancel()

    def all_planners(self) -> list[Planner]:
        return [
            ServicePlanner(self.store, self.new_id),
            AllocatorPlanner(self.store),
            SchedulerPlanner(self.store),
            ReaperPlanner(self.store),
        ]

    def states(self, name: str) -> list[TaskState]:
        return [task.state for task in self.store.tasks_of_service(name)]


def a_version(spec: ServiceSpec, number: int) -> SpecVersion:
    return SpecVersion(
        id=spec_version_id(spec.name, number), service_id=spec.name, number=number,
        template=spec.template, ports=spec.ports,
    )  # fmt: skip


def a_node(name: str) -> Node:
    return Node(
        id=name,
        description=NodeDescription(hostname=name),
        status=NodeStatus(state=NodeState.READY),
    )


async def test_a_service_that_is_created_while_the_loops_run_is_placed() -> None:
    world = World()
    await world.put(a_node("n1"), Cluster(id="c"))
    async with world.running(*world.all_planners()):
        await world.create(a_service(replicas=5))
        await world.until(lambda: world.states("web") == [TaskState.ASSIGNED] * 5)


async def test_what_was_there_before_the_term_is_looked_at_first() -> None:
    world = World()
    await world.put(a_node("n1"))
    await world.create(a_service(replicas=3))
    async with world.running(*world.all_planners()):
        await world.until(lambda: world.states("web") == [TaskState.ASSIGNED] * 3)


async def test_a_task_that_waits_for_the_port_of_its_slots_older_one_is_noticed() -> None:
    world = World()
    await world.put(a_node("n1"))
    port, update = PortSpec(target=80, published=80, mode="host"), UpdateConfig(order="start-first")
    spec = a_service(ports=(port,), update=update)
    await world.create(spec)
    async with world.running(*world.all_planners()):
        await world.until(lambda: world.states("web") == [TaskState.ASSIGNED])
        (old,) = world.store.tasks_of_service("web")
        await world.put(replace(old, status=replace(old.status, state=TaskState.RUNNING)))
        service, fresh = world.store.get(Service, "web"), a_service(image="v2", ports=(port,), update=update)
        assert service is not None
        await world.put(replace(service, spec=fresh, spec_version=2), a_version(fresh, 2))
        await world.until(lambda: _task(world, old.id).desired_state == TaskState.SHUTDOWN)


async def test_a_loop_wakes_by_itself_when_its_plan_says_so() -> None:
    world = World()
    await world.put(a_node("n1"))
    await world.create(a_service())
    async with world.running(*world.all_planners()):
        await world.until(lambda: world.states("web") == [TaskState.ASSIGNED])
        (task,) = world.store.tasks_of_service("web")
        await world.put(replace(task, status=replace(task.status, state=TaskState.FAILED)))
        await world.until(lambda: sorted(world.states("web")) == [TaskState.ASSIGNED, TaskState.FAILED])
        waiting = next(task for task in world.store.tasks_of_service("web") if task.is_live)
        assert waiting.desired_state == TaskState.READY
        world.clock.advance(5.0)
        await world.until(lambda: _task(world, waiting.id).desired_state == TaskState.RUNNING)


async def test_many_changes_are_stored_in_several_transactions() -> None:
    world = World()
    sizes: list[int] = []
    commit = world.store.commit

    async def counting(changes: Sequence[Change], *, timeout: float = 10.0) -> int:
        sizes.append(len(changes))
        return await commit(changes, timeout=timeout)

    world.store.commit = counting  # type: ignore[method-assign]
    await world.create(a_service(replicas=2 * CHANGES + 1))
    async with world.running(ServicePlanner(world.store, world.new_id)):
        await world.until(lambda: len(world.states("web")) == 2 * CHANGES + 1)
    assert max(sizes) <= CHANGES
    assert len(sizes) <= 6


async def test_a_row_that_somebody_else_changed_first_is_decided_again() -> None:
    world = World()
    await world.put(a_node("n1"))
    await world.create(a_service(replicas=3))
    commit = world.store.commit
    disturbed: list[str] = []

    async def disturbing(changes: Sequence[Change], *, timeout: float = 10.0) -> int:
        first = changes[0]
        if not disturbed and isinstance(first, Put) and isinstance(first.row, Task):
            stored = world.store.get(Task, first.row.id)
            if stored is not None:
                disturbed.append(stored.id)
                await commit([Put(replace(stored, start_at=7.0))])
        return await commit(changes, timeout=timeout)

    world.store.commit = disturbing  # type: ignore[method-assign]
    async with world.running(*world.all_planners()):
        await _advancing_until(world, lambda: world.states("web") == [TaskState.ASSIGNED] * 3)
    assert _task(world, disturbed[0]).start_at == 7.0


async def test_when_nobody_can_answer_the_loop_tries_again() -> None:
    world = World()
    await world.create(a_service())
    commit = world.store.commit
    refusals = 3

    async def refusing(changes: Sequence[Change], *, timeout: float = 10.0) -> int:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise Unavailable("no quorum")
        return await commit(changes, timeout=timeout)

    world.store.commit = refusing  # type: ignore[method-assign]
    async with world.running(ServicePlanner(world.store, world.new_id)):
        await _advancing_until(world, lambda: len(world.states("web")) == 1)
    assert refusals == 0


async def test_a_watcher_that_fell_behind_makes_a_full_pass() -> None:
    world = World()
    await world.put(a_node("n1"))
    async with world.running(*world.all_planners()):
        await world.create(a_service("first"))
        await world.until(lambda: world.states("first") == [TaskState.ASSIGNED])
        service = Service(id="web", spec=a_service(), version=0)
        version = SpecVersion(id="web.1", service_id="web", number=1, template=service.spec.template)
        rows = [*world.state.tables.rows(), service, version]
        world.state.restore(world.store.index, b"".join(encode_rows(world.store.index, rows)))
        await world.until(lambda: world.states("web") == [TaskState.ASSIGNED])


async def test_a_crash_of_a_planner_ends_the_loop() -> None:
    class Broken:
        def reset(self) -> Iterable[str]:
            return ("key",)

        def touched(self, event: Event) -> Iterable[str]:
            return ()

        def plan(self, keys: Collection[str], now: float) -> Agenda:
            raise ZeroDivisionError

    world = World()
    with pytest.raises(ExceptionGroup) as caught:
        await ControlLoop(world.store, world.clock, Broken()).run()
    assert caught.group_contains(ZeroDivisionError)


def _task(world: World, task_id: str) -> Task:
    found = world.store.get(Task, task_id)
    assert found is not None
    return found


async def _advancing_until(world: World, condition: Callable[[], bool]) -> None:
    """As World.until, with time passing while the loops back off."""
    async with asyncio.timeout(60):
        while not condition():
            world.clock.advance(0.1)
            await asyncio.sleep(0)
