"""Decide which rows are of no use any more: tasks beyond their slot's history, spec versions nobody names.

How often a slot failed is counted from its history, so a limit on attempts lengthens it; and the last task
of a slot at rest stays, for it is what says that the slot is at rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from swarmd.manager.orchestrator.core.draft import Key, key_of
from swarmd.manager.orchestrator.core.health import never_runs
from swarmd.manager.plan import Plan, Step, sooner
from swarmd.model.objects import Node, Service, SpecVersion, Task
from swarmd.model.states import NodeState, TaskState
from swarmd.store.core.transaction import Delete

NODE_PATIENCE = 24 * 3600.0
"""Seconds after which what ran on a node that is down counts as gone (Swarm's number)."""

VERSIONS = 10
"""Spec versions of a living service that are kept even if no task names them."""


class Remains(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one service; ``service`` None: it was removed.

    ``nodes``: those its tasks are on.  ``history``: tasks kept per slot, live ones included; below 0 = all.
    """

    service: Service | None
    tasks: Collection[Task]
    versions: Collection[SpecVersion]
    nodes: Mapping[str, Node]
    history: int


def plan_reaping(remains: Remains, *, now: float) -> Plan:
    """The rows to delete; wakes when a node has been down for long enough."""
    gone: list[Task] = []
    wake_at: float | None = None
    slots: dict[Key, list[Task]] = {}
    for task in sorted(remains.tasks, key=lambda task: (task.created_at, task.id)):
        over_at = _over_at(task, remains.nodes)
        if task.desired_state != TaskState.REMOVE:
            slots.setdefault(key_of(task), []).append(task)
        elif over_at is not None and over_at <= now:
            gone.append(task)
        if over_at is not None and over_at > now:
            wake_at = sooner(wake_at, over_at)
    for slot in slots.values():
        gone.extend(_beyond_history(slot, remains, now))
    steps: list[Step] = [(Delete(Task, task.id, task.version),) for task in gone]
    left = {task.id for task in gone}
    steps.extend(_old_versions(remains, [task for task in remains.tasks if task.id not in left]))
    return Plan(steps=tuple(steps), wake_at=wake_at)


def _over_at(task: Task, nodes: Mapping[str, Node]) -> float | None:
    """Since when, or from when on, nothing of the task can be running; None = it may still run.

    Only for tasks that were told to end: of the others the orchestrator has still to take note.
    """
    if task.desired_state <= TaskState.RUNNING:
        return None
    if task.state.is_terminal or never_runs(task):
        return 0.0
    node = nodes.get(task.node_id)
    if node is None or node.removed:
        return 0.0
    return node.updated_at + NODE_PATIENCE if node.status.state == NodeState.DOWN else None


def _beyond_history(slot: list[Task], remains: Remains, now: float) -> Iterable[Task]:
    limit = _limit(remains)
    if limit < 0:
        return ()
    past = [t for t in slot if (over_at := _over_at(t, remains.nodes)) is not None and over_at <= now]
    past = [task for task in past if task is not slot[-1]]
    return past[: max(0, len(slot) - limit)]


def _limit(remains: Remains) -> int:
    attempts = remains.service.spec.template.restart.max_attempts if remains.service is not None else 0
    if remains.history < 0 or attempts <= 0:
        return remains.history
    return max(remains.history, attempts + 1)


def _old_versions(remains: Remains, tasks: list[Task]) -> Iterable[Step]:
    named = {task.spec_version for task in tasks}
    if remains.service is not None:
        named.add(remains.service.spec_version)
        named.update(sorted(version.number for version in remains.versions)[-VERSIONS:])
    for version in remains.versions:
        if version.number not in named:
            yield (Delete(SpecVersion, version.id, version.version),)
