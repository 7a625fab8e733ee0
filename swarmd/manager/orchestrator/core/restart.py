"""Decide what follows a task that ended, and when a prepared one may start.

A restart is a new task in the same slot.  It waits in READY (image pulled, not started) for the restart
delay and for the old one to stop; then it is released.  How often is counted from the tasks in the store.
"""

from __future__ import annotations

from collections.abc import Collection

from swarmd.manager.orchestrator.core.draft import Draft, Key
from swarmd.manager.orchestrator.core.health import OWN_DEATHS, Health, examine, holds_its_place
from swarmd.model.objects import Task
from swarmd.model.replace import replace
from swarmd.model.spec import RestartPolicy
from swarmd.model.states import TaskState

STOP_PATIENCE = 60.0
"""Seconds after which a replacement starts although the old task has not stopped (Swarm's number)."""


def may_restart(last: Task, slot: Collection[Task], policy: RestartPolicy) -> bool:
    """Whether ``last``, the newest task of ``slot``, may get a successor.

    Attempts are counted back from its death, not from now: a slot that is exhausted stays so.
    """
    if policy.condition == "none":
        return False
    if policy.condition == "on-failure" and last.state == TaskState.COMPLETE:
        return False
    if policy.max_attempts <= 0 or last.state not in OWN_DEATHS:
        return True
    since = last.status.at - policy.window if policy.window > 0 else float("-inf")
    deaths = sum(
        1
        for task in slot
        if task.spec_version == last.spec_version and task.state in OWN_DEATHS and task.status.at > since
    )
    return deaths <= policy.max_attempts


def is_finished(draft: Draft, key: Key) -> bool:
    """The slot is at rest: its last task ended and must not be followed by another of its version."""
    tasks = draft.tasks(key)
    if not tasks or draft.wanted(key):
        return False
    return not may_restart(tasks[-1], draft.attempts(key), draft.restart_policy(tasks[-1]))


def replace_dead(draft: Draft, key: Key) -> None:
    """End what has died in a slot, and start its successor unless another task of the slot lives on."""
    wanted = draft.wanted(key)
    ill = [(task, health) for task in wanted if (health := _examine(draft, task)) is not Health.FINE]
    ill = [(task, health) for task, health in ill if not _serves_its_delay(draft, task, health)]
    for task, _ in ill:
        draft.end(task)
    if not ill or len(ill) < len(wanted):
        return
    last, health = ill[-1]
    policy = draft.restart_policy(last)
    if not may_restart(last, draft.attempts(key), policy):
        return
    waits = health is Health.DIED and not _is_superseded(draft, last)
    not_before = draft.now + policy.delay if waits else None
    draft.add(key, not_before=not_before, number=draft.successor_version(last))


def end_doubles(draft: Draft, key: Key) -> None:
    """Leave one task of the newest version in a slot and one of the older ones, the furthest each.

    Two old ones come of an update that overtakes another; two new ones of a transaction whose outcome was
    unknown, decided again, and stored after all.
    """
    kept: set[bool] = set()
    for task in sorted(draft.live(key), key=lambda task: (-task.state, task.created_at, task.id)):
        if draft.is_current(task) in kept:
            draft.end(task)
        kept.add(draft.is_current(task))


def release_ready(draft: Draft, key: Key) -> None:
    """Let a prepared task run once its delay is over and the older ones of its slot have stopped."""
    for task in draft.live(key):
        if task.desired_state != TaskState.READY:
            continue
        start_at = _start_time(draft, key, task)
        if start_at > draft.now:
            draft.wake(start_at)
        else:
            draft.put(replace(task, desired_state=TaskState.RUNNING))


def _serves_its_delay(draft: Draft, task: Task, health: Health) -> bool:
    """It died while being prepared: the next attempt is due when this one would have started, not before."""
    if health is not Health.DIED or task.desired_state != TaskState.READY or task.start_at <= draft.now:
        return False
    if _is_superseded(draft, task):
        return False
    draft.wake(task.start_at)
    return True


def _is_superseded(draft: Draft, task: Task) -> bool:
    """Its successor is another version's task: why it died says nothing of that one."""
    return draft.is_rolling and not draft.is_current(task)


def _start_time(draft: Draft, key: Key, task: Task) -> float:
    ending = (t for t in draft.tasks(key) if t.desired_state > TaskState.RUNNING)
    if any(holds_its_place(t, draft.node_of(t)) for t in ending):
        return max(task.start_at, task.created_at + STOP_PATIENCE)
    return task.start_at


def _examine(draft: Draft, task: Task) -> Health:
    return examine(task, draft.node_of(task))
