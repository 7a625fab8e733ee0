"""The way of a service to its desired state, as lines that change.  Pure: told the state and ``now``.

:class:`Convergence` decides what to show and when it is over; :func:`tty_text` and :func:`pipe_text` say how
a line looks on a terminal and elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from swarmd.cli.states import RUNNING, TASK_STATES, is_terminal, task_state
from swarmd.cli.table import ellipsis, truncate_id

if TYPE_CHECKING:
    from swarmd.rpc.v1 import control_pb2, types_pb2

MAX_BARS = 20
_STATE_WIDTH = 9
_ERROR_WIDTH = 75
_BAR_WIDTH = 50
_WIDE = 110
_STEPS = {state: step for step, state in enumerate(sorted(TASK_STATES), 1) if state <= RUNNING}
_LAST_STEP = _STEPS[RUNNING]
_DEFAULT_MONITOR = 5.0


class Line(NamedTuple):
    """One line, known by ``key``.  ``portion`` (0 to 1) makes it a bar, which only terminals show."""

    key: str
    text: str
    portion: float | None = None


class Step(NamedTuple):
    """Lines to show, whether that was all, and the sentence when it ended badly."""

    lines: list[Line]
    done: bool = False
    failure: str = ""


class Convergence:
    """Follows one service.  ``label`` names it; ``stale`` is when an update known before had started."""

    def __init__(self, label: str, stale: float = 0.0) -> None:
        self._label = label
        self._stale = stale
        self._slots: dict[str, int] = {}
        self._initialized = False
        self._settled = False
        self._rollback = False
        self._last_words = ""
        self._since: float | None = None
        self.converged = False

    def step(
        self,
        service: types_pb2.Service,
        tasks: Iterable[control_pb2.TaskView],
        active_nodes: Collection[str],
        now: float,
    ) -> Step:
        """One look at the service, all its tasks, the ids of nodes that are not down, and the time."""
        lines: list[Line] = []
        ended = self._update_status(service, lines)
        if ended is not None:
            return ended
        monitor = service.spec.update.monitor or _DEFAULT_MONITOR
        if self.converged and self._since is not None and now - self._since >= monitor:
            lines.append(Line("verify", f"Service {self._label} converged"))
            if self._last_words:
                lines.append(Line("rollback", self._last_words))
            return Step(lines, done=True)
        current = [view.task for view in tasks if view.up_to_date]
        self.converged = self._tasks(service.spec, current, active_nodes, lines)
        self._verify(monitor, now, lines)
        return Step(lines)

    def _update_status(self, service: types_pb2.Service, lines: list[Line]) -> Step | None:
        status = service.update_status
        if not status.state or (self._stale and status.started_at == self._stale):
            return None
        if status.state in ("paused", "rollback_paused"):
            what = "update" if status.state == "paused" else "rollback"
            return Step(lines, failure=f"service {what} paused: {status.message}")
        if status.state == "completed" and not self.converged:
            return Step(lines, done=True)
        if status.state == "rollback_started" and not self._rollback and status.message:
            lines.append(Line("rollback", status.message))
        if status.state == "rollback_completed" and not self.converged:
            self._last_words = status.message
        self._rollback = status.state.startswith("rollback")
        return None

    def _verify(self, monitor: float, now: float, lines: list[Line]) -> None:
        if not self.converged:
            if self._since is not None:
                lines.append(Line("verify", "Detected task failure"))
            self._since = None
            return
        self._since = now if self._since is None else self._since
        left = monitor - (now - self._since)
        if left >= 0:
            seconds = max(1, math.ceil(left))
            lines.append(Line("verify", f"Waiting {seconds} seconds to verify that tasks are stable..."))

    def _tasks(
        self,
        spec: types_pb2.ServiceSpec,
        tasks: Sequence[types_pb2.Task],
        active_nodes: Collection[str],
        lines: list[Line],
    ) -> bool:
        """Adds the lines of all tasks; answers whether every one that should run does."""
        on_every_node = spec.mode == "global"
        current = _one_each(tasks, active_nodes, on_every_node)
        total = len(current) if on_every_node else spec.replicas
        if not self._initialized:
            if on_every_node and not total:
                lines.append(Line("overall progress", "waiting for new tasks"))
                return False
            self._initialized = True
            lines.append(self._overall(0, total))
            if not on_every_node and total <= MAX_BARS:
                lines += [Line(f"{slot}/{total}", " ") for slot in range(1, total + 1)]
        if any(task.status.state != RUNNING for task in current.values()):
            self._settled = False
        running = 0
        for slot, task in current.items():
            running += task.status.state == RUNNING and not is_terminal(task.desired_state)
            key = truncate_id(task.node_id) if on_every_node else self._slot_key(slot, total)
            if key and not self._settled and total <= MAX_BARS:
                lines += self._task(key, task)
        if not self._settled:
            lines.append(self._overall(running, total))
            self._settled = running == total
        return running == total

    def _slot_key(self, slot: str, total: int) -> str:
        """Slots are numbered in the order they are seen: theirs may have gaps."""
        number = self._slots.setdefault(slot, len(self._slots) + 1)
        return f"{number}/{total}" if number <= total else ""

    def _overall(self, running: int, total: int) -> Line:
        prefix = "rolling back update: " if self._rollback else ""
        return Line("overall progress", f"{prefix}{running} out of {total} tasks")

    def _task(self, key: str, task: types_pb2.Task) -> list[Line]:
        if task.status.error:
            return [Line(key, ellipsis(task.status.error.replace("\n", " "), _ERROR_WIDTH))]
        if is_terminal(task.desired_state) or is_terminal(task.status.state):
            return []
        step = _STEPS.get(task.status.state, 0)
        portion = (_LAST_STEP - step if self._rollback else step) / _LAST_STEP
        return [Line(key, task_state(task.status.state).ljust(_STATE_WIDTH), portion)]


def _one_each(
    tasks: Sequence[types_pb2.Task], active_nodes: Collection[str], on_every_node: bool
) -> dict[str, types_pb2.Task]:
    """The task that counts of every slot (node, for a global service): the one least far ended."""
    chosen: dict[str, types_pb2.Task] = {}
    for task in tasks:
        if task.node_id and task.node_id not in active_nodes:
            continue
        key = task.node_id if on_every_node else str(task.slot)
        other = chosen.get(key)
        if other is None or _rank(task) < _rank(other):
            chosen[key] = task
    return dict(sorted(chosen.items(), key=lambda item: (len(item[0]), item[0])))


def _rank(task: types_pb2.Task) -> tuple[int, int]:
    return task.desired_state, task.status.state


def pipe_text(line: Line) -> str | None:
    """The line where there is no terminal; bars are not shown there."""
    return f"{line.key}: {line.text}" if line.portion is None else None


def tty_text(line: Line, columns: int) -> str:
    """The line on a terminal, with a bar when there is room for one."""
    bar = ""
    if line.portion is not None and columns > _WIDE:
        full = int(line.portion * _BAR_WIDTH)
        bar = f"[{'=' * full}>{' ' * (_BAR_WIDTH - full)}] "
    return f"{line.key}: {line.text} {bar}"


class Redraw:
    """Text that redraws lines in place on a terminal; each key keeps its row."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}

    def draw(self, key: str, text: str) -> str:
        """The characters to write."""
        start = "" if key in self._rows else "\n"
        row = self._rows.setdefault(key, len(self._rows))
        up = len(self._rows) - row
        return f"{start}\x1b[{up}A\x1b[2K\r{text}\r\x1b[{up}B"
