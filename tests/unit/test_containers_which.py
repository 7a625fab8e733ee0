"""Which container a user means: on this node, and among the tasks that a manager knows."""

from __future__ import annotations

import pytest

from swarmd.control.core.which import chosen
from swarmd.model.errors import Invalid, NotFound, Refused, SwarmError
from swarmd.model.objects import Task, TaskStatus
from swarmd.model.states import TaskState
from swarmd.node.containers.core.naming import Named, by_prefix, exact, task_names

OLD, NEW = "0ld" + "a" * 22, "new" + "b" * 22


def a_task(
    task_id: str, slot: int, state: TaskState = TaskState.RUNNING, *, service: str = "web", at: float = 0.0
) -> Task:
    return Task(
        id=task_id, service_id=f"id of {service}", service_name=service, spec_version=1, slot=slot,
        status=TaskStatus(state=state), created_at=at,
    )  # fmt: skip


TASKS = [
    a_task(OLD, 1, TaskState.FAILED),
    a_task(NEW, 1, at=1.0),
    a_task("two" + "c" * 22, 2),
    a_task("one" + "d" * 22, 1, service="db"),
    a_task("end" + "e" * 22, 1, TaskState.COMPLETE, service="job"),
]


@pytest.mark.parametrize(
    ("ref", "task_id"),
    [
        (OLD, OLD),
        ("web.1", NEW),
        (f"web.1.{OLD}", OLD),
        ("web.1.0ld", OLD),
        ("web.2", "two" + "c" * 22),
        ("db", "one" + "d" * 22),
        ("id of db", "one" + "d" * 22),
        ("job.1", "end" + "e" * 22),
        ("tw", "two" + "c" * 22),
    ],
)
def test_a_task_is_meant_by_id_name_service_or_a_beginning_of_its_id(ref: str, task_id: str) -> None:
    assert chosen(ref, TASKS).id == task_id


@pytest.mark.parametrize(
    ("ref", "kind", "words"),
    [
        (
            "web",
            Refused,
            "service web has 2 running tasks: name one of web.1.newbbbbbbbbb, web.2.twoccccccccc",
        ),
        ("job", Refused, "service job has no running task"),
        ("ghost", NotFound, "No such container: ghost"),
        ("web.9", NotFound, "No such container: web.9"),
        ("", NotFound, "No such container: "),
    ],
)
def test_what_means_no_single_task_is_said(ref: str, kind: type[SwarmError], words: str) -> None:
    with pytest.raises(kind) as caught:
        chosen(ref, TASKS)
    assert str(caught.value) == words


def test_a_beginning_of_two_ids_means_neither() -> None:
    with pytest.raises(Invalid, match="Multiple IDs found with provided prefix: x"):
        chosen("x", [a_task("x1", 1), a_task("x2", 2)])


HERE = [
    Named(OLD, task_names(f"web.1.{OLD}", OLD), runs=False, created_at=1.0),
    Named(NEW, task_names("web.1", NEW), runs=True, created_at=2.0),
    Named("box" + "f" * 22, ("happy_hopper",), runs=False),
]


@pytest.mark.parametrize(
    ("ref", "container_id"),
    [
        (OLD, OLD),
        ("web.1", NEW),
        (f"web.1.{OLD}", OLD),
        ("happy_hopper", "box" + "f" * 22),
        ("happy", None),
        ("new", None),
    ],
)
def test_a_container_here_is_meant_exactly(ref: str, container_id: str | None) -> None:
    assert exact(ref, HERE) == container_id


@pytest.mark.parametrize(
    ("ref", "container_id"), [("new", NEW), ("web.1.new", NEW), ("web.1.", None), ("web", None), ("", None)]
)
def test_a_container_here_is_meant_by_a_beginning_of_its_id(ref: str, container_id: str | None) -> None:
    assert by_prefix(ref, HERE) == container_id
