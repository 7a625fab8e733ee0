"""The scheduler's picture of the swarm: rows in, places and waiting groups kept, groups to look at out.

Tasks of one service and spec version are one group: they ask for the same.  A group that found no place
rests until something it waits for happens: a node changes, or a task ends where room was short.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from swarmd.manager.scheduler.core.filters import Reason
from swarmd.manager.scheduler.core.places import Place, Want, is_pending, occupies, want_of
from swarmd.model.objects import Node, SpecVersion, Task, spec_version_id

MOST_WANTS = 10_000
FindVersion = Callable[[str, int], SpecVersion | None]


class Swarm:
    """``find_version`` answers the row of a service's spec version."""

    def __init__(self, find_version: FindVersion) -> None:
        self.places: dict[str, Place] = {}
        self._find_version = find_version
        self._waiting: dict[str, frozenset[Reason]] = {}
        self._pending: dict[str, dict[str, Task]] = {}
        self._wants: dict[str, tuple[int, Want]] = {}
        self._taken: dict[str, tuple[Task, Want | None]] = {}

    def load(self, nodes: Iterable[Node], tasks: Iterable[Task]) -> Collection[str]:
        """Start from rows; answers every group that has pending tasks."""
        for node in nodes:
            self.set_node(node)
        for task in tasks:
            self.set_task(None, task)
        return list(self._pending)

    def pending(self, group: str) -> list[Task]:
        """The tasks of a group that wait, oldest first."""
        return sorted(self._pending.get(group, {}).values(), key=lambda t: (t.created_at, t.slot, t.id))

    def want(self, task: Task) -> Want | None:
        """What a task asks for; None when its spec version is not known."""
        version = self._find_version(task.service_id, task.spec_version)
        if version is None:
            return None
        known = self._wants.get(version.id)
        if known is None or known[0] != version.version:
            if len(self._wants) > MOST_WANTS:  # of services that are long gone, most of them
                self._wants.clear()
            known = self._wants[version.id] = (version.version, want_of(version))
        return known[1]

    def place(self, node_id: str) -> Place:
        return self.places.setdefault(node_id, Place())

    def set_node(self, node: Node) -> Collection[str]:
        """A node appeared or changed; answers the groups that may fit now."""
        self.place(node.id).node = None if node.removed else node
        return list(self._waiting)

    def drop_node(self, node_id: str) -> Collection[str]:
        """A node is gone; answers the groups whose explanation may differ."""
        self.place(node_id).node = None
        return list(self._waiting)

    def set_task(self, old: Task | None, new: Task | None) -> Collection[str]:
        """A task changed; answers the groups to look at."""
        groups: set[str] = set()
        if old is not None and self._forget(old, new):
            groups.update(g for g, why in self._waiting.items() if any(r.ends_with_a_task for r in why))
        if new is not None and self._add(new) and (old is None or not is_pending(old)):
            groups.add(group_of(new))
        if old is not None and not self._pending.get(group_of(old)):
            self._pending.pop(group_of(old), None)
            self._waiting.pop(group_of(old), None)
        return groups

    def note_waiting(self, group: str, reasons: Collection[Reason]) -> None:
        """Some of a group's tasks found no place, for these reasons; no reason: all of them did."""
        if reasons:
            self._waiting[group] = frozenset(reasons)
        else:
            self._waiting.pop(group, None)

    def take(self, task: Task) -> None:
        """Count a placed task in."""
        want = self.want(task)
        self._taken[task.id] = (task, want)
        self.place(task.node_id).take(task, want, 1)

    def give_back(self, task_id: str) -> None:
        """Count a placed task out again."""
        task, want = self._taken.pop(task_id)
        self.place(task.node_id).take(task, want, -1)

    def _add(self, task: Task) -> bool:
        """Note what a row means; true if it waits for a place."""
        if task.node_id:
            self.place(task.node_id).note_failure(task)
        if occupies(task):
            self.take(task)
        elif is_pending(task):
            self._pending.setdefault(group_of(task), {})[task.id] = task
            return True
        return False

    def _forget(self, old: Task, new: Task | None) -> bool:
        """Undo what a row meant; true if that left room for others."""
        self._pending.get(group_of(old), {}).pop(old.id, None)
        if old.id not in self._taken:
            return False
        self.give_back(old.id)
        return new is None or not occupies(new) or new.desired_state != old.desired_state


def group_of(task: Task) -> str:
    """The group of a task, by name: the id of its spec version's row."""
    return spec_version_id(task.service_id, task.spec_version)
