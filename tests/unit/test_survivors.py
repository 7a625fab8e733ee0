"""What the rows become when one manager goes on without the others."""

from __future__ import annotations

from swarmd.control.core.survivors import Survivor, begun_anew, place_of, put_back, restored
from swarmd.model.objects import Cluster, Node, NodeStatus, Row, Task, TaskStatus
from swarmd.model.spec import NodeSpec
from swarmd.model.states import NodeState, Role, TaskState

NOW = 1_800_000_000.0


def node(name: str, number: int, role: Role = Role.WORKER, **more: object) -> Node:
    settings: dict[str, object] = {
        "id": name,
        "number": number,
        "version": 7,
        "role": role,
        "spec": NodeSpec(role=role, labels={"of": name}),
        "status": NodeStatus(state=NodeState.READY, address=f"10.0.0.{number}"),
        "raft_address": f"10.0.0.{number}:2377" if role is Role.MANAGER else "",
    }
    return Node(**(settings | more))  # type: ignore[arg-type]


def task(name: str, node_id: str, state: TaskState = TaskState.RUNNING) -> Task:
    return Task(
        id=name,
        service_id="s",
        service_name="web",
        spec_version=1,
        node_id=node_id,
        version=7,
        status=TaskStatus(state=state),
    )


CLUSTER = Cluster(id="c1", ca_key=b"key", worker_token="w", manager_token="m", version=3)
ROWS: list[Row] = [
    CLUSTER,
    node("a", 1, Role.MANAGER),
    node("b", 2, Role.MANAGER),
    node("w", 3),
    task("ta", "a"),
    task("tb", "b"),
    task("old", "a", TaskState.FAILED),
]
SURVIVOR = Survivor("a", "10.0.0.9", "10.0.0.9:2377")


def by_id(rows: list[Row]) -> dict[str, Row]:
    found = {row.id: row for row in rows}
    assert len(found) == len(rows)
    return found


def a_node(rows: list[Row], name: str) -> Node:
    found = by_id(rows)[name]
    assert isinstance(found, Node)
    return found


def a_task(rows: list[Row], name: str) -> Task:
    found = by_id(rows)[name]
    assert isinstance(found, Task)
    return found


def test_the_survivor_is_the_only_manager_and_everything_else_stays() -> None:
    rows = begun_anew(ROWS, SURVIVOR, index=50, now=NOW)
    kept = by_id(rows)
    assert [kept[name] for name in ("c1", "w", "ta", "tb", "old")] == [ROWS[0], *ROWS[3:]]
    managers = [row.id for row in rows if isinstance(row, Node) and Role.MANAGER in (row.role, row.spec.role)]
    assert managers == ["a"]
    survivor = a_node(rows, "a")
    assert (survivor.status.address, survivor.raft_address) == ("10.0.0.9", "10.0.0.9:2377")
    assert (survivor.version, survivor.number, survivor.spec.labels) == (7, 1, {"of": "a"})


def test_another_manager_is_a_worker_that_nobody_has_heard_of_yet() -> None:
    other = a_node(begun_anew(ROWS, SURVIVOR, index=50, now=NOW), "b")
    assert (other.role, other.spec.role, other.raft_address) == (Role.WORKER, Role.WORKER, "")
    assert other.status.state is NodeState.UNKNOWN, "its tasks are moved if it is silent, not before"
    assert other.spec.labels == {"of": "b"}


def test_one_that_was_promoted_or_demoted_just_then_is_a_worker_too() -> None:
    half = [
        node("up", 5, spec=NodeSpec(role=Role.MANAGER)),
        node("out", 6, Role.MANAGER, spec=NodeSpec(role=Role.WORKER)),
    ]
    rows = begun_anew([*ROWS, *half], SURVIVOR, index=50, now=NOW)
    for name in ("up", "out"):
        assert (a_node(rows, name).role, a_node(rows, name).spec.role) == (Role.WORKER, Role.WORKER)


def test_a_survivor_without_a_row_gets_one_with_a_free_number() -> None:
    rows = begun_anew(ROWS, Survivor("new", "10.0.0.9", "10.0.0.9:2377"), index=50, now=NOW)
    survivor = a_node(rows, "new")
    assert (survivor.number, survivor.version, survivor.role) == (4, 50, Role.MANAGER)


def test_after_a_restore_no_other_node_has_been_heard_of() -> None:
    rows = put_back(ROWS, SURVIVOR, index=50, now=NOW)
    states = {row.id: row.status.state for row in rows if isinstance(row, Node)}
    assert states == {"a": NodeState.READY, "b": NodeState.UNKNOWN, "w": NodeState.UNKNOWN}
    assert a_task(rows, "ta").state is TaskState.RUNNING, "its containers may run still"


def test_what_ran_on_a_machine_that_is_replaced_is_lost() -> None:
    rows = restored(ROWS, SURVIVOR, index=50, now=NOW)
    lost = a_task(rows, "ta")
    assert (lost.state, lost.status.at) == (TaskState.ORPHANED, NOW)
    assert a_task(rows, "tb").state is TaskState.RUNNING
    assert a_task(rows, "old").state is TaskState.FAILED


def test_a_machine_takes_the_place_of_the_manager_that_had_its_address() -> None:
    worker = node("late", 8, status=NodeStatus(address="10.0.0.1"), updated_at=NOW)
    found = place_of([*ROWS, worker], "10.0.0.1")
    assert found is not None
    assert found.id == "a"
    assert place_of(ROWS, "10.0.0.77") is None
