"""The store keeps its promises: all or nothing, versions checked, names unique, watchers bounded."""

from __future__ import annotations

import pytest

from swarmd.kit.clock import SystemClock
from swarmd.model.errors import Conflict, OutOfSequence
from swarmd.model.objects import Node, PortAllocation, Service, Task
from swarmd.model.replace import replace
from swarmd.model.spec import ServiceSpec
from swarmd.store.core.tables import Outcome
from swarmd.store.core.transaction import Delete, Put
from swarmd.store.store import Store, StoreState
from swarmd.store.watch import EventLog, Overrun


class Alone:
    """A proposer that is its own majority."""

    def __init__(self, state: StoreState) -> None:
        self._state = state
        self.log: list[bytes] = []

    async def propose(self, command: bytes, *, timeout: float = 10.0) -> Outcome:
        self.log.append(command)
        return self._state.apply(len(self.log), command)


@pytest.fixture
def state() -> StoreState:
    return StoreState()


@pytest.fixture
def alone(state: StoreState) -> Alone:
    return Alone(state)


@pytest.fixture
def store(state: StoreState, alone: Alone) -> Store:
    return Store(state, alone, SystemClock())


def a_service(name: str = "web", service_id: str = "s1") -> Service:
    return Service(id=service_id, spec=ServiceSpec(name=name))


async def test_a_row_written_with_a_stale_version_changes_nothing(store: Store) -> None:
    await store.commit([Put(a_service())])
    read = store.get(Service, "s1")
    assert read is not None
    await store.commit([Put(replace(read, spec_version=2))])
    with pytest.raises(OutOfSequence):
        await store.commit([Put(a_service("other", "s2")), Put(replace(read, spec_version=3))])
    assert store.get(Service, "s2") is None
    assert store.get(Service, "s1").spec_version == 2  # type: ignore[union-attr]


async def test_two_services_cannot_have_one_name_whatever_its_case(store: Store) -> None:
    await store.commit([Put(a_service())])
    with pytest.raises(Conflict, match="service Web already exists"):
        await store.commit([Put(a_service("Web", "s2"))])


async def test_a_port_is_taken_once_and_free_again_when_its_row_goes(store: Store) -> None:
    port = PortAllocation(id="tcp/80", service_id="s1", service_name="web")
    await store.commit([Put(port)])
    with pytest.raises(Conflict):
        await store.commit([Put(replace(port, service_id="s2"))])
    taken = store.get(PortAllocation, "tcp/80")
    assert taken is not None
    await store.commit([Delete(PortAllocation, "tcp/80", taken.version)])
    await store.commit([Put(replace(port, service_id="s2"))])


async def test_a_node_number_belongs_to_one_node(store: Store) -> None:
    await store.commit([Put(Node(id="n1", number=1))])
    with pytest.raises(Conflict):
        await store.commit([Put(Node(id="n2", number=1))])


async def test_tasks_are_found_by_service_and_by_node_also_after_they_moved(store: Store) -> None:
    await store.commit([Put(Task(id="t", service_id="s", service_name="web", spec_version=1))])
    task = store.get(Task, "t")
    assert task is not None
    await store.commit([Put(replace(task, node_id="n1"))])
    assert [t.id for t in store.tasks_of_service("s")] == ["t"]
    assert [t.id for t in store.tasks_of_node("n1")] == ["t"]
    assert list(store.tasks_of_node("")) == []


async def test_a_replica_built_from_the_log_or_from_a_snapshot_is_the_same(
    store: Store, state: StoreState, alone: Alone
) -> None:
    await store.commit([Put(a_service()), Put(Node(id="n1", number=1))])
    await store.commit([Put(a_service("db", "s2"))])
    replayed, restored = StoreState(), StoreState()
    for index, command in enumerate(alone.log, start=1):
        replayed.apply(index, command)
    restored.restore(store.index, b"".join(state.view()()))
    by_id = {row.id: row for row in state.tables.rows()}
    assert {row.id: row for row in replayed.tables.rows()} == by_id
    assert {row.id: row for row in restored.tables.rows()} == by_id
    assert restored.tables.index == store.index


async def test_a_watcher_sees_each_change_once_with_old_and_new(store: Store) -> None:
    watch = store.watch()
    await store.commit([Put(a_service())])
    (event,) = await watch.next()
    assert event.old is None
    assert isinstance(event.new, Service)
    await store.commit([Delete(Service, "s1", event.new.version)])
    (event,) = await watch.next()
    assert event.new is None


async def test_a_watcher_that_fell_behind_is_told_so(store: Store, state: StoreState) -> None:
    state.events = EventLog(size=2)
    watch = store.watch()
    await store.commit([Put(Node(id=f"n{i}", number=i)) for i in range(1, 5)])
    with pytest.raises(Overrun):
        await watch.next()
    await store.commit([Put(Node(id="n9", number=9))])
    assert len(await watch.next()) == 1


def test_garbage_in_the_log_is_refused_alike_and_breaks_nothing(state: StoreState) -> None:
    outcome = state.apply(1, b"\xff\xff\xff")
    assert outcome.error_kind == "internal"
    assert state.tables.index == 0
