"""What the scheduler knows of each node: what runs there, what is taken, what failed lately.

Derived from the store's rows and kept up to date by its events; it holds no truth of its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec

from swarmd.model.objects import Node, SpecVersion, Task
from swarmd.model.states import TaskState
from swarmd.store.core import levels

FAILURES = 5
FAILURE_WINDOW = 300.0
"""A node where a version of a service failed this often within so many seconds comes last (as in Swarm)."""

_FAILED = frozenset({TaskState.FAILED, TaskState.REJECTED})


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """What every task of one spec version asks of a node.

    ``ports``: host-mode ones, as ``tcp/80``; ``runtime`` empty: the node's default; ``devices``: by path;
    ``level``: the feature level of a node that understands all that the task is told.
    """

    service_id: str
    number: int
    nano_cpus: int = 0
    memory: int = 0
    ports: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    max_replicas: int = 0
    runtime: str = ""
    devices: frozenset[str] = frozenset()
    level: int = 0


def want_of(version: SpecVersion) -> Want:
    """What tasks of ``version`` ask for."""
    template = version.template
    return Want(
        service_id=version.service_id,
        number=version.number,
        nano_cpus=template.reservations.nano_cpus,
        memory=template.reservations.memory,
        ports=tuple(port.key for port in version.ports if port.mode == "host" and port.published),
        constraints=template.placement.constraints,
        max_replicas=template.placement.max_replicas,
        runtime=template.runtime,
        devices=frozenset(device.source for device in template.container.devices),
        level=levels.needed(version),
    )


class Place:
    """One node with what is on it.  ``node`` None: tasks name it, but it has no row (any more)."""

    def __init__(self) -> None:
        self.node: Node | None = None
        self.live = 0
        self.live_of: Counter[str] = Counter()
        self.nano_cpus = 0
        self.memory = 0
        self.ports: Counter[str] = Counter()
        self._failures: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)

    def take(self, task: Task, want: Want | None, sign: int) -> None:
        """Count a task in (``sign`` 1) or out (-1)."""
        if task.desired_state <= TaskState.COMPLETE:
            self.live += sign
            self.live_of[task.service_id] += sign
        if want is not None:
            self.nano_cpus += sign * want.nano_cpus
            self.memory += sign * want.memory
            if want.ports:
                self.ports.update(dict.fromkeys(want.ports, sign))
                self.ports = +self.ports

    def note_failure(self, task: Task) -> None:
        """Remember when a task failed here; others are ignored."""
        if task.state in _FAILED:
            self._failures[task.service_id, task.spec_version][task.id] = task.status.at

    def is_faulty(self, want: Want, now: float) -> bool:
        """The same spec version failed here again and again."""
        failures = self._failures.get((want.service_id, want.number))
        if failures is None:
            return False
        for task_id in [task_id for task_id, at in failures.items() if at <= now - FAILURE_WINDOW]:
            del failures[task_id]
        return len(failures) >= FAILURES

    def rank(self, want: Want, now: float) -> tuple[bool, int, int, str, str]:
        """The smallest is the best place: the fewest of this service, then the emptiest, then by name."""
        node = self.node
        names = (node.description.hostname, node.id) if node is not None else ("", "")
        return (self.is_faulty(want, now), self.live_of[want.service_id], self.live, *names)


def occupies(task: Task) -> bool:
    """The task takes room on its node: it was placed there and has not ended, told to or not."""
    return bool(task.node_id) and TaskState.ASSIGNED <= task.state <= TaskState.RUNNING


def is_pending(task: Task) -> bool:
    """The task waits for the scheduler."""
    return task.state == TaskState.PENDING and task.desired_state <= TaskState.RUNNING
