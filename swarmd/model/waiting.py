"""Why a task waits for a node, in words that its error holds and that decisions are made by, too."""

from __future__ import annotations

from swarmd.model.objects import Task
from swarmd.model.states import TaskState

PORT_IN_USE = "host-mode port already in use"
PLACES_TAKEN = "max replicas per node limit exceed"


def waits_for_its_own(task: Task) -> bool:
    """Whether it may go where an older task of its own slot is, once that has ended."""
    is_port = task.state == TaskState.PENDING and PORT_IN_USE in task.status.error
    return is_port or waits_for_a_place(task)


def waits_for_a_place(task: Task) -> bool:
    """Whether some node has as many tasks of its own service as it may."""
    return task.state == TaskState.PENDING and PLACES_TAKEN in task.status.error
