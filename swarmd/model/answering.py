"""When a task may be sent requests: the same for published ports, virtual addresses and names."""

from __future__ import annotations

from swarmd.model.objects import Task
from swarmd.model.states import TaskState


def answers(task: Task) -> bool:
    """From the moment it runs and is ready until it is told to stop."""
    return (
        task.state is TaskState.RUNNING
        and task.desired_state is TaskState.RUNNING
        and bool(task.status.address)
        and not task.status.unready
    )
