"""Tell the allocator's core which services to look at."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from swarmd.manager.allocator.core.ports import grant_ports, release
from swarmd.manager.plan import Agenda, Step
from swarmd.model.objects import PortAllocation, Service, Task
from swarmd.model.states import TaskState
from swarmd.store.core.tables import Event
from swarmd.store.core.transaction import Delete, Put
from swarmd.store.store import Store


class AllocatorPlanner:
    """Gives services their ports and lets their new tasks go on.  A key is a service's id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._short: set[str] = set()

    def reset(self) -> Iterable[str]:
        self._short = set()
        return {
            *(service.id for service in self._store.all(Service)),
            *(row.service_id for row in self._store.all(PortAllocation)),
        }

    def touched(self, event: Event) -> Iterable[str]:
        row = event.new or event.old
        if isinstance(row, PortAllocation):
            return (row.service_id, *self._short) if event.new is None else ()
        if isinstance(row, Service):
            return (row.id,)
        if isinstance(event.new, Task) and event.new.state == TaskState.NEW:
            return (event.new.service_id,)
        return ()

    def plan(self, keys: Collection[str], now: float) -> Agenda:
        taken = {row.id: row for row in self._store.all(PortAllocation)}
        steps: list[Step] = []
        for key in keys:
            steps.extend(self._plan(key, taken, now))
        return Agenda(steps=tuple(steps))

    def _plan(self, service_id: str, taken: dict[str, PortAllocation], now: float) -> Iterable[Step]:
        self._short.discard(service_id)
        service = self._store.get(Service, service_id)
        if service is None:
            return [
                (Delete(PortAllocation, row.id, row.version),)
                for row in taken.values()
                if row.service_id == service_id
            ]
        grant = grant_ports(service, taken)
        if grant.ports is None:
            self._short.add(service_id)
        # The services of one turn must not be promised the same port.
        rows = (change.row for change in grant.changes if isinstance(change, Put))
        taken.update({row.id: row for row in rows if isinstance(row, PortAllocation)})
        waiting = release(self._store.tasks_of_service(service_id), grant, now=now)
        return [grant.changes, *waiting] if grant.changes else waiting
