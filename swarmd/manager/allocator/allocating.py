"""Tell the allocator's core which services to look at, and whose addresses are free again."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from swarmd.manager.allocator.core import attaching, routes
from swarmd.manager.allocator.core.addresses import Turn
from swarmd.manager.allocator.core.ports import Grant
from swarmd.manager.allocator.core.release import grant_vips, is_over, release
from swarmd.manager.allocator.core.standing import Standing
from swarmd.manager.allocator.viewing import view
from swarmd.manager.orchestrator.core.health import is_dead
from swarmd.manager.plan import Agenda, Step
from swarmd.model.containers import SingleContainer
from swarmd.model.network import NetworkAttachment
from swarmd.model.objects import (
    AddressAllocation,
    Cluster,
    Network,
    Node,
    PortAllocation,
    Service,
    Task,
)
from swarmd.model.replace import replace
from swarmd.model.states import TaskState
from swarmd.store.core.tables import Event
from swarmd.store.core.transaction import Change, Delete, Put
from swarmd.store.store import Store


class AllocatorPlanner:
    """Gives services their ports and addresses, tasks their addresses, and lets new tasks go on.

    A key is a service's id, or a task's that may have no need of its addresses any more.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._short: set[str] = set()
        self._waiting: set[str] = set()
        self._standing = Standing()

    def reset(self) -> Iterable[str]:
        self._short, self._waiting = set(), set()
        allocations = self._store.all(AddressAllocation)
        self._standing = Standing(allocations, self._store.all(Service))
        return {
            *(service.id for service in self._store.all(Service)),
            *(row.service_id for row in self._store.all(PortAllocation)),
            *(row.owner_id for row in allocations),
            *(row.id for row in self._store.all(SingleContainer)),
        }

    def touched(self, event: Event) -> Iterable[str]:
        row = event.new or event.old
        if isinstance(row, PortAllocation):
            return (row.service_id, *self._short) if event.new is None else ()
        if isinstance(row, Service):
            spares = self._standing.asks(row.id, event.new if isinstance(event.new, Service) else None)
            return (row.id, *self._waiting) if spares else (row.id,)
        if isinstance(row, Task):
            return self._touched_by_task(row, is_gone=event.new is None)
        if isinstance(row, AddressAllocation):
            if event.new is None:
                return tuple(self._waiting)
            self._standing.was_given(row)
        if isinstance(row, Network | Cluster):
            return tuple(self._waiting)
        if isinstance(row, SingleContainer):
            return (row.id,)
        if isinstance(row, Node) and event.new is None:
            return [row.id for row in (*self._networked(row.id), *self._store.containers_of_node(row.id))]
        if isinstance(row, Node) and is_dead(event.new if isinstance(event.new, Node) else None):
            return [task.id for task in self._networked(row.id)]
        return ()

    def _networked(self, node_id: str) -> list[Task]:
        return [task for task in self._store.tasks_of_node(node_id) if task.networks]

    def plan(self, keys: Collection[str], now: float) -> Agenda:
        ports = _Ports(self._store.all(PortAllocation))
        held = {row.service_id for row in ports.taken.values()}
        turn = Turn(view(self._store, self._standing))
        steps: list[Step] = []
        wakes: dict[str, float] = {}
        for key in keys:
            steps.extend(self._freed(key))
            service = self._store.get(Service, key)
            if service is None:
                self._short.discard(key)
                self._waiting.discard(key)
                freed = routes.freed(key, ports.taken) if key in held else []
                if ports.enter(change for step in freed for change in step):
                    steps.extend(freed)
                else:
                    wakes[key] = now
            else:
                steps.extend(self._plan(service, ports, turn, now))
                if key in ports.later:
                    wakes[key] = now
        return Agenda(steps=tuple(steps), wakes=wakes)

    def _touched_by_task(self, task: Task, *, is_gone: bool) -> Iterable[str]:
        if task.networks and (is_gone or not task.is_live):
            return (task.id,)
        return (task.service_id,) if task.state == TaskState.NEW and not is_gone else ()

    def _freed(self, owner_id: str) -> Iterable[Step]:
        """Addresses of a task that needs none, of a container of a node that was removed, or of an owner that
        is gone."""
        container = self._store.get(SingleContainer, owner_id)
        if container is not None:
            if self._store.get(Node, container.node_id) is None:
                yield attaching.released(container, self._store.addresses_of(owner_id))
            return
        task = self._store.get(Task, owner_id)
        node = self._store.get(Node, task.node_id) if task is not None else None
        if self._store.get(Service, owner_id) is None and is_over(task, node):
            for row in self._store.addresses_of(owner_id):
                yield (Delete(AddressAllocation, row.id, row.version),)

    def _plan(self, service: Service, ports: _Ports, turn: Turn, now: float) -> Iterable[Step]:
        vips = grant_vips(service, turn, self._store.addresses_of(service.id))
        fresh = replace(service, vips=vips.vips)
        grant = routes.grant(fresh, ports.taken)
        _mark(self._short, service.id, when=grant.ports is None)
        if not ports.enter(grant.changes):
            ports.later.add(service.id)
            grant = Grant()
        changes = (*vips.changes, *grant.changes)
        if fresh != service and not any(isinstance(c, Put) and isinstance(c.row, Service) for c in changes):
            changes = (Put(fresh), *changes)
        released = release(
            ()
            if (vips.later and not vips.error) or service.id in ports.later
            else self._store.tasks_of_service(service.id),
            lambda task: self._networks_of(task, service),
            turn,
            now=now,
            error=grant.error or vips.error,
        )
        _mark(self._waiting, service.id, when=released.waits or vips.later)
        return [changes, *released.steps] if changes else released.steps

    def _networks_of(self, task: Task, service: Service) -> tuple[NetworkAttachment, ...]:
        version = self._store.spec_version(task.service_id, task.spec_version)
        return (version.template if version else service.spec.template).networks


class _Ports:
    """Those of one turn: ``taken`` as they will be; ``later``: services that have to come again."""

    def __init__(self, rows: Iterable[PortAllocation]) -> None:
        self.taken = {row.id: row for row in rows}
        self.later: set[str] = set()
        self._written: set[str] = set()

    def enter(self, changes: Iterable[Change]) -> bool:
        """Count on these; false when they write a row that another service of this turn writes: that all
        routes of a port have one in common, and no transaction may change it twice."""
        rows: dict[str, PortAllocation | None] = {}
        for change in changes:
            if isinstance(change, Delete) and change.kind is PortAllocation:
                rows[change.id] = None
            elif isinstance(change, Put) and isinstance(change.row, PortAllocation):
                rows[change.row.id] = change.row
        if rows.keys() & self._written:
            return False
        self._written |= rows.keys()
        self.taken.update({key: row for key, row in rows.items() if row is not None})
        return True


def _mark(names: set[str], name: str, *, when: bool) -> None:
    (names.add if when else names.discard)(name)
