"""Decide which task a user means who wants to do something to its container.

By a task's id, its name ("web.3", "web.3.<id or its beginning>"), a service that has exactly one running
task, or a unique beginning of a task's id, in this order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from swarmd.model.errors import Invalid, NotFound, Refused
from swarmd.model.objects import Task
from swarmd.model.states import TaskState


def chosen(ref: str, tasks: Sequence[Task]) -> Task:
    """Raises NotFound, Invalid when several are meant alike, Refused when a service has not just one."""
    for found in (
        [task for task in tasks if task.id == ref],
        [task for task in tasks if task.name == ref],
        [
            task
            for task in tasks
            if ref and f"{task.name}.{task.id}".startswith(ref) and len(ref) > len(task.name) + 1
        ],
    ):
        if found:
            return _best(ref, found)
    of_service = [task for task in tasks if ref and ref in (task.service_name, task.service_id)]
    if of_service:
        return _only(ref, of_service)
    by_prefix = [task for task in tasks if ref and task.id.startswith(ref)]
    if len(by_prefix) > 1:
        raise Invalid(f"Multiple IDs found with provided prefix: {ref}")
    if not by_prefix:
        raise NotFound(f"No such container: {ref}")
    return by_prefix[0]


def _best(ref: str, found: list[Task]) -> Task:
    """Of the tasks of one slot the one that runs, or is to run; else the newest."""
    return max(found, key=lambda task: (_runs(task), task.is_live, task.created_at))


def _only(ref: str, tasks: list[Task]) -> Task:
    running = [task for task in tasks if _runs(task)]
    if len(running) == 1:
        return running[0]
    if not running:
        raise Refused(f"service {ref} has no running task")
    raise Refused(f"service {ref} has {len(running)} running tasks: name one of {_listed(running)}")


def _runs(task: Task) -> bool:
    return task.state is TaskState.RUNNING


def _listed(tasks: Iterable[Task]) -> str:
    names = sorted(f"{task.name}.{task.id[:12]}" for task in tasks)
    shown = names[:10]
    return ", ".join(shown) + (f" and {len(names) - 10} more" if len(names) > len(shown) else "")
