"""What is true of the tables after every transaction, whoever wrote it.  Pure; for tests and ``raft verify``.

:func:`structural` holds whatever is committed: the tables see to it.  :func:`referential` holds because the
use cases and control loops write what they write; a row that others refer to may go first where the loops end
those afterwards (tasks and port claims of a removed service, tasks of a removed node).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from swarmd.model.containers import SingleContainer
from swarmd.model.network import ContainerNetwork, TaskNetwork, VirtualIp
from swarmd.model.objects import (
    AddressAllocation,
    Cluster,
    JoinToken,
    Node,
    Row,
    Service,
    SpecVersion,
    Task,
    spec_version_id,
)
from swarmd.store.core.tables import Tables
from swarmd.store.core.transaction import NAMES

START_FIRST = "start-first"


def invariants(tables: Tables) -> list[str]:
    """A sentence for each rule that is broken; empty when all is well."""
    return [*structural(tables), *referential(tables)]


def structural(tables: Tables) -> list[str]:
    """Rules of single rows, of what must be unique, and of the indexes."""
    broken: list[str] = []
    rows = tables.rows()
    for row in rows:
        if row.version > tables.index:
            broken.append(f"{_called(row)} has version {row.version}, of {tables.index} transactions")
        if tables.get(type(row), row.id) is not row:
            broken.append(f"{_called(row)} is kept under another id")
    if len(tables.all(Cluster)) > 1:
        broken.append(f"there are {len(tables.all(Cluster))} cluster rows")
    broken += _repeated("service name", [row.spec.name.lower() for row in tables.all(Service)])
    broken += _repeated("node number", [str(row.number) for row in tables.all(Node) if row.number])
    broken += _repeated("join key", [row.join_key for row in tables.all(Node) if row.join_key])
    broken += _repeated("address", [row.address for row in tables.all(AddressAllocation)])
    broken += _repeated("token", [row.secret_hash for row in tables.all(JoinToken)])
    anew = Tables()
    anew.load(tables.index, rows)
    if anew.indexes() != tables.indexes():
        broken.append("the indexes are not those of the rows")
    return broken


def referential(tables: Tables) -> list[str]:
    """Rules between rows, and that each was written by a transaction."""
    broken = [
        f"{_called(version)} is number {version.number} of service {version.service_id}"
        for version in tables.all(SpecVersion)
        if version.id != spec_version_id(version.service_id, version.number)
    ]
    broken += [f"{_called(row)} has version 0" for row in tables.rows() if row.version == 0]
    for service in tables.all(Service):
        if tables.get(SpecVersion, spec_version_id(service.id, service.spec_version)) is None:
            broken.append(f"{_called(service)} names spec version {service.spec_version}, which is gone")
        broken += _slots(service, tables)
    return [*broken, *_addresses(tables)]


def _addresses(tables: Tables) -> list[str]:
    """Whoever has an address has its row, and the other way round.

    A task that ended, or is to end on a node that is dead, may have lost its rows; owners may be gone first.
    """
    wanted: dict[str, str] = {}
    kept: dict[str, frozenset[str]] = {}
    for service in tables.all(Service):
        ids = _ids(service.vips)
        kept[service.id] = ids
        wanted.update(dict.fromkeys(ids, service.id))
    for task in tables.all(Task):
        kept[task.id] = ids = _ids(task.networks)
        if task.is_live:
            wanted.update(dict.fromkeys(ids, task.id))
    for container in tables.all(SingleContainer):
        kept[container.id] = ids = _ids(container.networks)
        wanted.update(dict.fromkeys(ids, container.id))
    rows = {row.id: row for row in tables.all(AddressAllocation)}
    broken = [
        f"{_called(row)} is of {row.owner_kind} {row.owner_id}, which has another"
        for row in rows.values()
        if row.id not in kept.get(row.owner_id, (row.id,))
    ]
    for row_id, owner in wanted.items():
        held = rows.get(row_id)
        if held is None or held.owner_id != owner:
            broken.append(f"address {row_id} of {owner} is {'nobody' if held is None else held.owner_id}'s")
    return broken


def _ids(networks: Iterable[VirtualIp | TaskNetwork | ContainerNetwork]) -> frozenset[str]:
    return frozenset(f"{one.network_id}/{address}" for one in networks for address in one.addresses)


def _slots(service: Service, tables: Tables) -> list[str]:
    """Each task's spec version is there, and no slot has more live tasks than its updates allow."""
    broken: list[str] = []
    live: Counter[str] = Counter()
    for task in tables.where(Task, "service", service.id):
        if tables.get(SpecVersion, spec_version_id(service.id, task.spec_version)) is None:
            broken.append(f"{_called(task)} is of spec version {task.spec_version}, which is gone")
        if task.is_live:
            live[str(task.slot or task.node_id)] += 1
    specs = [service.spec, *([service.previous_spec] if service.previous_spec else [])]
    overlap = any(START_FIRST in (spec.update.order, spec.rollback.order) for spec in specs)
    for slot, count in live.items():
        if count > (2 if overlap else 1):
            broken.append(f"slot {slot} of service {service.spec.name} has {count} live tasks")
    return broken


def _repeated(what: str, values: list[str]) -> list[str]:
    return [f"the {what} {value} is there {n} times" for value, n in Counter(values).items() if n > 1]


def _called(row: Row) -> str:
    return f"{NAMES[type(row)]} {row.id}"
