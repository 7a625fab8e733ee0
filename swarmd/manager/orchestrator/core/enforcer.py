"""Decide which running tasks their node does not suit any more: its labels or role were changed.

The verdict is written as the task's state; replacing it is the restart logic's affair, as for any other end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from swarmd.manager.plan import Plan, Step
from swarmd.model import constraint
from swarmd.model.objects import Node, Task
from swarmd.model.replace import replace
from swarmd.model.states import Availability, TaskState
from swarmd.store.core.transaction import Put

MESSAGE = "task rejected by constraint enforcer"
ERROR = "assigned node no longer meets constraints"


def plan_enforcing(
    node: Node, tasks: Iterable[Task], constraints: Mapping[tuple[str, int], tuple[str, ...]], *, now: float
) -> Plan:
    """Reject the tasks on ``node`` whose constraints it fails.

    ``constraints``: by service id and spec version.  A node being drained is left to the orchestrator.
    """
    if node.spec.availability == Availability.DRAIN:
        return Plan()
    steps: list[Step] = []
    for task in tasks:
        placed = TaskState.ASSIGNED <= task.state <= TaskState.RUNNING
        if not placed or task.desired_state > TaskState.RUNNING:
            continue
        if not constraint.meets(constraints.get((task.service_id, task.spec_version), ()), node):
            steps.append((Put(_rejected(task, now)),))
    return Plan(steps=tuple(steps))


def _rejected(task: Task, now: float) -> Task:
    status = replace(task.status, state=TaskState.REJECTED, at=now, message=MESSAGE, error=ERROR)
    return replace(task, status=status)
