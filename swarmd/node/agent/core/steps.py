"""Decide what to do next for one task.  Resumable at any point: the state alone says what comes next.

ASSIGNED ─► accept ─► prepare ─► READY ─┬─ hold, while READY is all that is wanted
                                        └─ start ─► RUNNING ─► watch ─► COMPLETE | FAILED
wanted SHUTDOWN or REMOVE, at any point ─► stop ─► SHUTDOWN
"""

from __future__ import annotations

import enum

from swarmd.model.objects import TaskStatus
from swarmd.model.replace import replace
from swarmd.model.states import TaskState
from swarmd.node.agent.core.health import Condition


class Step(enum.Enum):
    """One thing for the shell to do; it then asks again."""

    ACCEPT = "accept"
    PREPARE = "prepare"
    HOLD = "hold"
    START = "start"
    WATCH = "watch"
    STOP = "stop"
    DONE = "done"


def next_step(state: TaskState, desired: TaskState) -> Step:
    """What a task in ``state`` needs to get to ``desired``."""
    if state.is_terminal:
        return Step.DONE
    if desired > TaskState.RUNNING:
        return Step.STOP
    if state < TaskState.ACCEPTED:
        return Step.ACCEPT
    if state < TaskState.READY:
        return Step.PREPARE
    if state is TaskState.READY:
        return Step.START if desired >= TaskState.RUNNING else Step.HOLD
    return Step.WATCH


def advance(status: TaskStatus, state: TaskState, *, at: float, message: str, error: str = "") -> TaskStatus:
    """The status in its next state; an older state changes nothing."""
    if state < status.state:
        return status
    return replace(status, state=state, at=at, message=message, error=error)


def conditioned(status: TaskStatus, condition: Condition, *, at: float) -> TaskStatus:
    """The status after its probes said how it is: RUNNING from the first time that it is up."""
    fresh = replace(status, health=condition.health, unready=not condition.ready)
    if status.state is TaskState.STARTING:
        if condition.is_up:
            return advance(fresh, TaskState.RUNNING, at=at, message="started")
        return replace(fresh, message=f"starting: {condition.waits_for}")
    return replace(fresh, message="started" if condition.ready else condition.waits_for)


def condemned(status: TaskStatus, exit_code: int | None, reason: str, *, at: float) -> TaskStatus:
    """The status of a task whose container was stopped because its probes failed."""
    code = 255 if exit_code is None else exit_code
    error = f"task: non-zero exit ({code}): {reason}"
    fresh = advance(status, TaskState.FAILED, at=at, message="started", error=error)
    return replace(fresh, exit_code=code, pid=0, address="", health=status.health and "unhealthy")


def ended(status: TaskStatus, exit_code: int, *, at: float, oom_killed: bool, error: str = "") -> TaskStatus:
    """The status of a task whose container ended by itself."""
    if exit_code == 0 and not oom_killed and not error:
        fresh = advance(status, TaskState.COMPLETE, at=at, message="finished")
    else:
        text = error or f"task: non-zero exit ({exit_code})"
        if oom_killed:
            text += ": out of memory: the container was killed at its memory limit"
        fresh = advance(status, TaskState.FAILED, at=at, message="started", error=text)
    return replace(fresh, exit_code=exit_code, pid=0, address="")


def stopped(status: TaskStatus, exit_code: int | None, *, at: float) -> TaskStatus:
    """The status of a task that was told to end."""
    fresh = advance(status, TaskState.SHUTDOWN, at=at, message="shutdown")
    return replace(fresh, exit_code=-1 if exit_code is None else exit_code, pid=0, address="")


def failed(status: TaskStatus, error: str, *, at: float) -> TaskStatus:
    """The status of a task that could not be prepared (REJECTED) or started (FAILED)."""
    if status.state < TaskState.STARTING:
        return advance(status, TaskState.REJECTED, at=at, message="preparing", error=error)
    fresh = advance(status, TaskState.FAILED, at=at, message="starting", error=error)
    return replace(fresh, pid=0, address="")


def broken(status: TaskStatus, error: str, *, at: float) -> TaskStatus:
    """The status of a task that could not be looked after any more, whatever it was doing."""
    message = "started" if status.state is TaskState.RUNNING else status.message
    fresh = advance(status, TaskState.FAILED, at=at, message=message, error=error)
    return replace(fresh, pid=0, address="")


class Container(enum.Enum):
    """What a daemon that comes back finds of a task's container."""

    NONE = "none"
    CREATED = "created"
    STARTED = "started"


def resumed(status: TaskStatus, found: Container) -> TaskStatus:
    """Where a restarted daemon goes on.

    A start that was cut off begins again, unless the program did run: that happens once.  The result is
    for memory only: states never go back for the managers, who know STARTING already.
    """
    if status.state is TaskState.STARTING and not (status.container_id and found is Container.STARTED):
        return replace(status, state=TaskState.READY, pid=0, address="", container_id="")
    return status
