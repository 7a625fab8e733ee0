"""Why a task waits for a node, in words that its error holds and that decisions are made by, too."""

from __future__ import annotations

from swarmd.model.objects import Task
from swarmd.model.states import TaskState

PORT_IN_USE = "host-mode port already in use"
PLACES_TAKEN = "max replicas per node limit exceed"


def waits_for_its_own(task: Task) -> bool:
    """Whether it may go where an older task of its own slot is, once that has ended."""
    error = task.status.error
    return task.state == TaskState.PENDING and (PORT_IN_USE in error or PLACES_TAKEN in error)
