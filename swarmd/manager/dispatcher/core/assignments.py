"""Decide what a node has to be told: the difference between its tasks and what it was told before."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from swarmd.model.objects import Task
from swarmd.model.states import TaskState

SpecKey = tuple[str, int]


class Delta(msgspec.Struct, frozen=True):
    """Tasks that are new to the node or wanted otherwise, spec versions it lacks, tasks that are no more."""

    tasks: tuple[Task, ...] = ()
    specs: tuple[SpecKey, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.tasks or self.removed)


class Told:
    """What one session's node knows by now."""

    def __init__(self) -> None:
        self._desired: dict[str, TaskState] = {}
        self._specs: set[SpecKey] = set()

    def whole(self, tasks: Iterable[Task]) -> Delta:
        """Everything, at the start of a session."""
        self._desired.clear()
        self._specs.clear()
        return self.advance(tasks)

    def advance(self, tasks: Iterable[Task]) -> Delta:
        """What changed; afterwards the node counts as told."""
        present = {task.id: task for task in tasks if belongs(task)}
        changed = tuple(task for task in present.values() if self._desired.get(task.id) != task.desired_state)
        removed = tuple(task_id for task_id in self._desired if task_id not in present)
        wanted = {(task.service_id, task.spec_version) for task in changed}
        fresh = tuple(sorted(wanted - self._specs))
        self._specs.update(fresh)
        self._desired = {task_id: task.desired_state for task_id, task in present.items()}
        return Delta(tasks=changed, specs=fresh, removed=removed)


def belongs(task: Task) -> bool:
    """Whether a task is its node's business yet: placed, not merely bound to it."""
    return TaskState.ASSIGNED <= task.state < TaskState.ORPHANED


def newer(task: Task, state: TaskState) -> bool:
    """Whether a reported state may be stored: states only grow; the same one may gain detail."""
    return state >= task.state and not task.state.is_terminal


def touched(tasks: Iterable[tuple[Task | None, Task | None]]) -> Collection[str]:
    """Nodes whose assignments may have changed by these (old, new) rows."""
    nodes: set[str] = set()
    for old, new in tasks:
        if old is not None and new is not None and _same_for_node(old, new):
            continue
        nodes.update(task.node_id for task in (old, new) if task is not None and task.node_id)
    return nodes


def _same_for_node(old: Task, new: Task) -> bool:
    return (
        old.node_id == new.node_id and old.desired_state == new.desired_state and belongs(old) == belongs(new)
    )
