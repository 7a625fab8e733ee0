"""Decide the next move of a rolling update or rollback.

    stale slots ──► at most ``parallelism`` in hand ──► new task runs ──► delay ──► next
                        └─ too many failures ──► pause | roll back | continue
    none left ──► one monitor window ──► completed

Progress is a function of the rows.  While an update is under way ``task.running_since`` keeps since when a
task was seen running, by the leader's clock: its status only keeps the newest state.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from swarmd.manager.orchestrator.core.draft import PAUSED, UNDER_WAY, Draft, Key
from swarmd.manager.orchestrator.core.health import OWN_DEATHS
from swarmd.manager.orchestrator.core.restart import is_finished, may_restart
from swarmd.manager.orchestrator.core.rollback import rolled_back
from swarmd.model.objects import Task, UpdateStatus
from swarmd.model.ports import clashing
from swarmd.model.replace import replace
from swarmd.model.spec import UpdateConfig
from swarmd.model.states import TaskState, UpdateState
from swarmd.model.waiting import waits_for_a_place, waits_for_its_own


def note_failures(draft: Draft, slots: int) -> None:
    """Record tasks of the new version that died early; pause or roll back when they are too many.

    ``slots``: how many the service has, what the failure ratio is a share of.
    """
    status = _under_way(draft)
    if status is None:
        return
    config = _config(draft, status)
    failed = [
        task.id
        for key in draft.keys
        for task in draft.wanted(key)
        if task.id not in status.failed_tasks and _failed_early(draft, task, config.monitor)
    ]
    if not failed:
        return
    _set_status(draft, replace(status, failed_tasks=(*status.failed_tasks, *failed)))
    if len(status.failed_tasks) + len(failed) > config.max_failure_ratio * max(1, slots):
        _give_up(draft, failed[0], config)


def advance(draft: Draft, slots: Collection[Key], skipped: Collection[Key] = ()) -> None:
    """Take the next stale slots in hand, as many as the configuration allows; complete when none is left.

    ``slots``: all of the service; ``skipped``: those that keep the version they have.
    """
    mine = [key for key in slots if key not in set(skipped)]
    for key in mine:
        _hand_over(draft, key)
    stale = [key for key in mine if _is_stale(draft, key)]
    _begin(draft, stale)
    status = _under_way(draft)
    if status is None:
        return
    for key in mine:
        _mark_running(draft, key)
    config = _config(draft, status)
    room = (config.parallelism or len(mine)) - sum(_in_hand(draft, key, status, config) for key in mine)
    tried = {key: _has_failed(draft, key, status) for key in stale}
    for key in sorted(stale, key=lambda key: (tried[key], _runs(draft.live(key)), key))[: max(0, room)]:
        _replace(draft, key, config)
    if not stale and all(_is_settled(draft, key, status) for key in mine):
        _complete(draft, mine, status, config)


def _begin(draft: Draft, stale: list[Key]) -> None:
    status = draft.service.update_status
    if not stale or (status is not None and status.state in UNDER_WAY | PAUSED):
        return
    fresh = UpdateStatus(state=UpdateState.UPDATING, started_at=draft.now, message="update in progress")
    _set_status(draft, fresh)


def _hand_over(draft: Draft, key: Key) -> None:
    """start-first: the new task runs, so the old one may go; or the old one has the only place for it."""
    live = draft.live(key)
    current = [task for task in live if draft.is_current(task)]
    old = [task for task in live if not draft.is_current(task)]
    if _runs(current) or any(_waits_for(draft, task, old) for task in current):
        for task in old:
            draft.end(task)


def _waits_for(draft: Draft, task: Task, old: Collection[Task]) -> bool:
    """Whether it may run once these have ended: a port may be another service's, which does not end."""
    if not waits_for_its_own(task):
        return False
    has = [port for one in old for port in draft.host_ports(one)]
    return waits_for_a_place(task) or any(clashing(port, has) for port in draft.host_ports(task))


def _is_stale(draft: Draft, key: Key) -> bool:
    """The slot has no task of the newest version, and may get one."""
    if any(draft.is_current(task) for task in draft.wanted(key)):
        return False
    if not draft.wanted(key):
        return is_finished(draft, key) and not draft.is_current(draft.tasks(key)[-1])
    return not _is_exhausted(draft, key)


def _is_exhausted(draft: Draft, key: Key) -> bool:
    """The new version died here as often as its restart policy allows."""
    dead = _dead_attempts(draft, key)
    return bool(dead) and not may_restart(dead[-1], dead, draft.restart_policy(dead[-1]))


def _dead_attempts(draft: Draft, key: Key) -> list[Task]:
    return [task for task in draft.attempts(key) if draft.is_current(task) and task.state in OWN_DEATHS]


def _in_hand(draft: Draft, key: Key, status: UpdateStatus, config: UpdateConfig) -> bool:
    """The slot's new task does not run yet, or has not run for the delay.

    A slot where one failed is left to the restart policy, except while it has a task too many (start-first).
    """
    live = draft.live(key)
    current = [task for task in live if draft.is_current(task)]
    if not current or (_has_failed(draft, key, status) and len(current) == len(live)):
        return False
    if not _runs(current):
        return True
    rested_at = max(task.running_since for task in current) + config.delay
    if rested_at > draft.now:
        draft.wake(rested_at)
    return rested_at > draft.now


def _replace(draft: Draft, key: Key, config: UpdateConfig) -> None:
    """Make the new task; stop the old ones first, unless one of them serves until the new one runs."""
    old = draft.wanted(key)
    serving = [task for task in old if task.state == TaskState.RUNNING]
    spared = serving[-1].id if serving and config.order == "start-first" else ""
    for task in old:
        if task.id != spared:
            draft.end(task)
    dead = _dead_attempts(draft, key)
    draft.add(key, not_before=draft.now + draft.restart_policy(dead[-1]).delay if dead else None)


def _mark_running(draft: Draft, key: Key) -> None:
    for task in draft.live(key):
        if task.state == TaskState.RUNNING and draft.is_current(task) and not task.running_since:
            draft.put(replace(task, running_since=draft.now))


def _failed_early(draft: Draft, task: Task, monitor: float) -> bool:
    """It died before it was seen running, or within the monitor window after."""
    if task.state not in OWN_DEATHS or not draft.is_current(task) or not draft.is_attempt(task):
        return False
    if task.state == TaskState.COMPLETE and draft.restart_policy(task).condition != "any":
        return False
    return not task.running_since or draft.now - task.running_since <= monitor


def _give_up(draft: Draft, task_id: str, config: UpdateConfig) -> None:
    status = _under_way(draft)
    if status is None or config.failure_action == "continue":
        return
    back = status.state == UpdateState.ROLLBACK_STARTED
    message = f"update paused due to failure or early termination of task {task_id}"
    if config.failure_action == "rollback" and not back and draft.service.previous_spec is not None:
        if not draft.no_way_back:
            draft.go_back(*rolled_back(draft.service, draft.versions, draft.now, failed_task=task_id))
            return
        message += f"; it cannot be rolled back: {draft.no_way_back}"
    state = UpdateState.ROLLBACK_PAUSED if back else UpdateState.PAUSED
    _set_status(draft, replace(status, state=state, message=message))


def _is_settled(draft: Draft, key: Key, status: UpdateStatus) -> bool:
    """Nothing is left to do for the slot: the new version runs there, or has had its chance."""
    live = draft.live(key)
    if any(not draft.is_current(task) for task in live):
        return _is_exhausted(draft, key)
    return not live or _runs(live) or _has_failed(draft, key, status)


def _complete(draft: Draft, slots: list[Key], status: UpdateStatus, config: UpdateConfig) -> None:
    since = [t.running_since for key in slots for t in draft.live(key) if t.state == TaskState.RUNNING]
    done_at = max(since, default=status.started_at) + config.monitor
    if draft.now < done_at:
        draft.wake(done_at)
        return
    back = status.state == UpdateState.ROLLBACK_STARTED
    _set_status(
        draft,
        replace(
            status,
            state=UpdateState.ROLLBACK_COMPLETED if back else UpdateState.COMPLETED,
            completed_at=draft.now,
            message="rollback completed" if back else "update completed",
        ),
    )


def _has_failed(draft: Draft, key: Key, status: UpdateStatus) -> bool:
    return any(task.id in status.failed_tasks for task in draft.tasks(key))


def _runs(tasks: Iterable[Task]) -> bool:
    return any(task.state == TaskState.RUNNING for task in tasks)


def _under_way(draft: Draft) -> UpdateStatus | None:
    return draft.service.update_status if draft.is_rolling else None


def _config(draft: Draft, status: UpdateStatus) -> UpdateConfig:
    spec = draft.service.spec
    return spec.rollback if status.state == UpdateState.ROLLBACK_STARTED else spec.update


def _set_status(draft: Draft, status: UpdateStatus) -> None:
    draft.change_service(replace(draft.service, update_status=status))
