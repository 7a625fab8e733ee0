"""Decide which statuses the managers still have to hear: the newest of each task, until acknowledged."""

from __future__ import annotations

from swarmd.model.objects import TaskStatus
from swarmd.model.states import TaskState


class Reporter:
    """Newest statuses and what is known to have arrived."""

    def __init__(self) -> None:
        self._newest: dict[str, TaskStatus] = {}
        self._unsent: dict[str, None] = {}
        self._in_flight: dict[int, dict[str, TaskStatus]] = {}
        self._sequence = 0

    def note(self, task_id: str, status: TaskStatus) -> None:
        """A task changed."""
        if self._newest.get(task_id) != status:
            self._newest[task_id] = status
            self._unsent[task_id] = None

    def state_of(self, task_id: str) -> TaskState | None:
        """The state that was last noted."""
        status = self._newest.get(task_id)
        return None if status is None else status.state

    def forget(self, task_id: str) -> None:
        """The task's assignment is gone: nobody waits for its status."""
        self._newest.pop(task_id, None)
        self._unsent.pop(task_id, None)

    def restart(self) -> None:
        """A new session: everything is told again, the manager may be another one."""
        self._in_flight.clear()
        self._unsent = dict.fromkeys(self._newest)

    def batch(self, limit: int = 500) -> tuple[int, dict[str, TaskStatus]] | None:
        """(sequence, statuses) to send now; None when there is nothing or one batch is still on its way."""
        if self._in_flight or not self._unsent:
            return None
        chosen = list(self._unsent)[:limit]
        for task_id in chosen:
            del self._unsent[task_id]
        self._sequence += 1
        statuses = {task_id: self._newest[task_id] for task_id in chosen}
        self._in_flight[self._sequence] = statuses
        return self._sequence, statuses

    def acknowledged(self, sequence: int) -> None:
        """Everything up to that batch is stored."""
        for sent in [number for number in self._in_flight if number <= sequence]:
            del self._in_flight[sent]
