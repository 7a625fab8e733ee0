"""What has become of a task: does it run, has it died, was it taken away from under us?"""

from __future__ import annotations

import enum

from swarmd.model.objects import Node, Task
from swarmd.model.states import Availability, NodeState, TaskState

OWN_DEATHS = frozenset({TaskState.COMPLETE, TaskState.FAILED, TaskState.REJECTED})
"""Ends that a task came to by itself; the others it was told."""


class Health(enum.Enum):
    """How a task that is wanted fares."""

    FINE = enum.auto()
    DIED = enum.auto()
    ENDED = enum.auto()
    LOST = enum.auto()
    MOVING = enum.auto()


def examine(task: Task, node: Node | None) -> Health:
    """``node`` is the one the task is on.

    DIED: by itself.  ENDED: by somebody's order.  LOST: with its node.  MOVING: its node is being drained.
    """
    if task.state.is_terminal:
        return Health.DIED if task.state in OWN_DEATHS else Health.ENDED
    if not task.node_id:
        return Health.FINE
    if is_dead(node):
        return Health.LOST
    if node is not None and node.spec.availability == Availability.DRAIN:
        return Health.MOVING
    return Health.FINE


def is_dead(node: Node | None) -> bool:
    """Nothing can be running there, as far as anybody knows."""
    return node is None or node.removed or node.status.state == NodeState.DOWN


def holds_its_place(task: Task, node: Node | None) -> bool:
    """Something of the task may still run: its successor waits."""
    return TaskState.ASSIGNED <= task.state <= TaskState.RUNNING and not is_dead(node)


def never_runs(task: Task) -> bool:
    """No node was told of the task, and none will be."""
    return task.state < TaskState.ASSIGNED and task.desired_state > TaskState.RUNNING
