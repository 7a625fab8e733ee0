"""The working copy a decision is made on: one service's rows, grouped by slot, and what became of them.

View (rows as stored) ──► Draft (rows as they shall be) ──► Plan (what differs, slot by slot)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from swarmd.manager.orchestrator.core.health import holds_its_place
from swarmd.manager.plan import Plan, Step, sooner
from swarmd.model.objects import Network, Node, Service, SpecVersion, Task, TaskStatus
from swarmd.model.replace import replace
from swarmd.model.spec import RestartPolicy
from swarmd.model.states import TaskState, UpdateState
from swarmd.store.core.transaction import Put

Key = int | str
"""What tells the slots of a service apart: the slot's number, or a global service's node id."""


UNDER_WAY = frozenset({UpdateState.UPDATING, UpdateState.ROLLBACK_STARTED})
PAUSED = frozenset({UpdateState.PAUSED, UpdateState.ROLLBACK_PAUSED})


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a decision about one service is made from.

    ``nodes``: at least those its tasks are on; all of the swarm for a global service.
    ``versions``: its spec versions by number, as far as the rows still exist.
    ``no_way_back``: what its previous spec needs and the swarm has no more, a sentence; "" = nothing.
    ``way_back``: the networks that its previous spec names.
    """

    service: Service
    tasks: Collection[Task]
    nodes: Mapping[str, Node]
    versions: Mapping[int, SpecVersion] = {}
    no_way_back: str = ""
    way_back: tuple[Network, ...] = ()


class Draft:
    """Rows of one service being changed.  Tasks that shall be removed are no longer part of it."""

    def __init__(self, view: View, *, now: float, new_id: Callable[[], str]) -> None:
        self.service = view.service
        self.now = now
        self.nodes = view.nodes
        self.wake_at: float | None = None
        self._before = view
        self._new_id = new_id
        self._version: SpecVersion | None = None
        self._held: tuple[Network, ...] = ()
        self._changed: dict[Key, dict[str, Task]] = {}
        self._slots: dict[Key, dict[str, Task]] = {}
        for task in sorted(view.tasks, key=_age):
            if task.desired_state != TaskState.REMOVE:
                self._slots.setdefault(key_of(task), {})[task.id] = task

    @property
    def keys(self) -> list[Key]:
        """Slots that have tasks, in order."""
        return sorted(self._slots, key=lambda key: (isinstance(key, str), key))

    def tasks(self, key: Key) -> list[Task]:
        """All tasks of a slot, oldest first."""
        return list(self._slots.get(key, {}).values())

    def wanted(self, key: Key) -> list[Task]:
        """Tasks of a slot that nobody told to end (they may have ended all the same)."""
        return [task for task in self.tasks(key) if task.desired_state <= TaskState.RUNNING]

    def live(self, key: Key) -> list[Task]:
        """Tasks of a slot that run, or will."""
        return [task for task in self.tasks(key) if task.is_live]

    def node_of(self, task: Task) -> Node | None:
        return self.nodes.get(task.node_id)

    def restart_policy(self, task: Task) -> RestartPolicy:
        """The policy ``task`` was made with (the service's present one when its version is gone)."""
        version = self._before.versions.get(task.spec_version)
        return (version.template if version else self.service.spec.template).restart

    def host_ports(self, task: Task) -> list[str]:
        """Keys of the ports that it takes of its node."""
        version = self._before.versions.get(task.spec_version)
        return [port.key for port in version.ports if port.mode == "host"] if version else []

    @property
    def is_rolling(self) -> bool:
        """An update or rollback is under way."""
        status = self.service.update_status
        return status is not None and status.state in UNDER_WAY

    def successor_version(self, task: Task) -> int:
        """The version of the task that follows ``task``: the newest, unless that has failed its update."""
        status = self.service.update_status
        is_paused = status is not None and status.state in PAUSED
        known = task.spec_version in self._before.versions
        return task.spec_version if is_paused and known else self.service.spec_version

    def is_current(self, task: Task) -> bool:
        return task.spec_version == self.service.spec_version

    def is_attempt(self, task: Task) -> bool:
        """It was made since the last update or rollback began: how older ones died says nothing of now."""
        status = self.service.update_status
        return status is None or task.created_at >= status.started_at

    def attempts(self, key: Key) -> list[Task]:
        """The tasks of a slot by which restarts are counted, oldest first."""
        return [task for task in self.tasks(key) if self.is_attempt(task)]

    @property
    def versions(self) -> Collection[SpecVersion]:
        """The spec versions there are."""
        return self._before.versions.values()

    @property
    def no_way_back(self) -> str:
        """See :class:`View`."""
        return self._before.no_way_back

    def wake(self, when: float) -> None:
        """Ask again at ``when``, if not before."""
        self.wake_at = sooner(self.wake_at, when)

    def put(self, task: Task) -> None:
        """Change a task, or add one."""
        key = key_of(task)
        self._slots.setdefault(key, {})[task.id] = task
        self._changed.setdefault(key, {})[task.id] = task

    def add(self, key: Key, *, not_before: float | None = None, number: int | None = None) -> None:
        """A new task, of the newest spec version unless ``number`` names another.

        It is only made ready while an older one of its slot is still ending, or until ``not_before``.
        """
        ending = (t for t in self.tasks(key) if t.desired_state > TaskState.RUNNING)
        waits = not_before is not None or any(holds_its_place(t, self.node_of(t)) for t in ending)
        task = Task(
            id=self._new_id(),
            created_at=self.now,
            service_id=self.service.id,
            service_name=self.service.spec.name,
            spec_version=self.service.spec_version if number is None else number,
            slot=key if isinstance(key, int) else 0,
            node_id=key if isinstance(key, str) else "",
            desired_state=TaskState.READY if waits else TaskState.RUNNING,
            status=TaskStatus(state=TaskState.NEW, at=self.now, message="created"),
            start_at=max(self.now, not_before or 0.0) if waits else 0.0,
        )
        self.put(task)

    def end(self, task: Task) -> None:
        """Tell a task to stop; it stays as history of its slot."""
        self.put(replace(task, desired_state=TaskState.SHUTDOWN))

    def remove(self, key: Key) -> None:
        """The slot is not wanted any more, nor is its history."""
        for task in self.tasks(key):
            self.put(replace(task, desired_state=TaskState.REMOVE))
        del self._slots[key]

    def change_service(self, service: Service, version: SpecVersion | None = None) -> None:
        """Change the service; ``version`` is the new spec version it names, if any."""
        self.service = service
        self._version = version or self._version

    def go_back(self, service: Service, version: SpecVersion | None) -> None:
        """The same, to the previous spec.  Nothing comes of it when one of its networks is removed meanwhile,
        and of that removal nothing when this was first: their rows are written, too."""
        self.change_service(service, version)
        self._held = self._before.way_back

    def plan(self) -> Plan:
        """The difference to the stored rows.

        The service first: it records what the tasks' steps undo.  Then the slots where tasks only end:
        whoever is interrupted has fewer tasks than wanted, not more.
        """
        steps: list[Step] = []
        if self.service != self._before.service:
            extra = (Put(self._version),) if self._version is not None else ()
            steps.append((Put(self.service), *extra, *(Put(row) for row in self._held)))
        slots = sorted(self._changed.values(), key=lambda tasks: any(t.version == 0 for t in tasks.values()))
        steps.extend(tuple(Put(task) for task in tasks.values()) for tasks in slots)
        return Plan(steps=tuple(steps), wake_at=self.wake_at)


def key_of(task: Task) -> Key:
    """The slot a task is in."""
    return task.slot or task.node_id


def plan_removed(tasks: Iterable[Task]) -> Plan:
    """A service that is gone: its tasks go too."""
    going = [task for task in tasks if task.desired_state != TaskState.REMOVE]
    return Plan(steps=tuple((Put(replace(task, desired_state=TaskState.REMOVE)),) for task in going))


def _age(task: Task) -> tuple[float, bool, str]:
    return (task.created_at, task.desired_state <= TaskState.RUNNING, task.id)
