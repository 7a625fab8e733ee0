"""The replicated tables: pure, deterministic, checked while applying.

Rows are immutable; a table is a dictionary of them, and an index a dictionary of sets of ids.  Applying
either does all of a transaction or says which rule it breaks and does nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypeVar, cast

import msgspec

from swarmd.model.claims import SHARED, exclude, is_of_a_route
from swarmd.model.containers import SingleContainer
from swarmd.model.objects import (
    AddressAllocation,
    JoinToken,
    Network,
    Node,
    PortAllocation,
    Row,
    Secret,
    Service,
    SpecVersion,
    Task,
)
from swarmd.model.ports import number_of_row
from swarmd.model.registry import RegistryManifest, RegistryTag
from swarmd.store.core.transaction import KINDS, NAMES, Change, Delete, Put, Transaction

R = TypeVar("R", bound=Row)

CLASHES = 5
"""The feature level from which claims of one port on different addresses are compared, and networks with the
addresses in them: all replicas have to agree on what is refused."""


class Event(msgspec.Struct, frozen=True):
    """What happened to a row.  create: ``old`` is None; delete: ``new`` is None.

    ``index`` and ``at`` (seconds since 1970) are the transaction's, the same on every replica.
    """

    index: int
    old: Row | None
    new: Row | None
    at: float = 0.0

    @property
    def kind(self) -> type[Row]:
        return type(self.new if self.new is not None else cast("Row", self.old))


class Outcome(msgspec.Struct, frozen=True):
    """How applying ended: ``error_kind`` "" = done, else a kind of swarmd.model.errors with its text."""

    index: int
    events: tuple[Event, ...] = ()
    error_kind: str = ""
    error: str = ""


class Tables:
    """All rows of a swarm, with the indexes its loops need."""

    def __init__(self) -> None:
        self.index = 0
        self._rows: dict[type[Row], dict[str, Row]] = {kind: {} for kind in KINDS.values()}
        self._by: dict[str, dict[str, dict[str, Row]]] = {}

    def get(self, kind: type[R], row_id: str) -> R | None:
        """The row of that id, if there is one."""
        return cast("R | None", self._rows[kind].get(row_id))

    def all(self, kind: type[R]) -> Collection[R]:
        """Every row of a kind (a live view: copy before awaiting)."""
        return cast("Collection[R]", self._rows[kind].values())

    def where(self, kind: type[R], field: str, value: str) -> Collection[R]:
        """Rows by an indexed field (see ``_keys``)."""
        return cast("Collection[R]", self._by.get(f"{kind.__name__}.{field}", {}).get(value, {}).values())

    def rows(self) -> list[Row]:
        """Every row of every kind, for a snapshot."""
        return [row for table in self._rows.values() for row in table.values()]

    def indexes(self) -> dict[tuple[str, str], frozenset[str]]:
        """Ids by index and value, for whoever checks them."""
        return {(name, value): frozenset(ids) for name, by in self._by.items() for value, ids in by.items()}

    def load(self, index: int, rows: Iterable[Row]) -> None:
        """Start again from a snapshot."""
        self.__init__()  # type: ignore[misc]
        self.index = index
        for row in rows:
            self._put(None, row)

    def apply(self, index: int, transaction: Transaction) -> Outcome:
        """Do all of it, or nothing.  Deterministic: the same on every replica."""
        self.index = index
        refusal = self._refusal(transaction.changes)
        if refusal is None and transaction.level >= CLASHES:
            refusal = self._clash(transaction.changes) or self._homeless(transaction.changes)
        if refusal is not None:
            return Outcome(index=index, error_kind=refusal[0], error=refusal[1])
        events = tuple(self._apply_one(index, transaction.at, change) for change in transaction.changes)
        return Outcome(index=index, events=events)

    def _apply_one(self, index: int, at: float, change: Change) -> Event:
        if isinstance(change, Delete):
            old = self._rows[change.kind].pop(change.id)
            self._unindex(old, _keys(old))
            return Event(index, old, None, at)
        before = self._rows[type(change.row)].get(change.row.id)
        row = msgspec.structs.replace(
            change.row, version=index, created_at=before.created_at if before else at, updated_at=at
        )
        self._put(before, row)
        return Event(index, before, row, at)

    def _refusal(self, changes: tuple[Change, ...]) -> tuple[str, str] | None:
        seen: set[tuple[type[Row], str]] = set()
        claimed: set[tuple[type[Row], str, str]] = set()
        for change in changes:
            kind, row_id = (
                (type(change.row), change.row.id) if isinstance(change, Put) else (change.kind, change.id)
            )
            if (kind, row_id) in seen:
                return "internal", f"{NAMES[kind]} {row_id} is changed twice in one transaction"
            seen.add((kind, row_id))
            refusal = self._stale(change, kind, row_id)
            if refusal is None and isinstance(change, Put):
                refusal = self._taken(change.row, changes, claimed)
            if refusal is not None:
                return refusal
        return None

    def _stale(self, change: Change, kind: type[Row], row_id: str) -> tuple[str, str] | None:
        stored = self._rows[kind].get(row_id)
        expected = change.row.version if isinstance(change, Put) else change.version
        if stored is None and expected == 0 and isinstance(change, Put):
            return None
        if stored is not None and expected == 0 and isinstance(change, Put):
            return "conflict", _exists(stored)
        if stored is None or stored.version != expected:
            return "out_of_sequence", "update out of sequence"
        return None

    def _taken(
        self, row: Row, changes: tuple[Change, ...], claimed: set[tuple[type[Row], str, str]]
    ) -> tuple[str, str] | None:
        """Unique fields.  A row that the same transaction deletes does not count, one that it puts does."""
        unique = _unique(row)
        if not unique:
            return None
        leaving = {one.id for one in changes if isinstance(one, Delete) and one.kind is type(row)}
        for field, value in unique.items():
            if (type(row), field, value) in claimed:
                return "conflict", _exists(row)
            claimed.add((type(row), field, value))
            for other in self.where(type(row), field, value):
                if other.id != row.id and other.id not in leaving:
                    return "conflict", _exists(row)
        return None

    def _clash(self, changes: tuple[Change, ...]) -> tuple[str, str] | None:
        """Ports that nobody had, and of which some node could not open this one and another service's."""
        ports = [one.row for one in changes if isinstance(one, Put) and isinstance(one.row, PortAllocation)]
        put = [row for row in ports if not is_of_a_route(row)]
        touched = {row.id for row in put} | {one.id for one in changes if isinstance(one, Delete)}
        for row in put:
            if row.version:
                continue
            number = number_of_row(row.id)
            there = self.where(PortAllocation, "number", number)
            for other in (*(one for one in there if one.id not in touched), *put):
                if number_of_row(other.id) == number and exclude(row, other):
                    return "conflict", _exists(other)
        return None

    def _homeless(self, changes: tuple[Change, ...]) -> tuple[str, str] | None:
        """Addresses in a network that was removed meanwhile, or networks that a single container joined.

        A service writes the row of its network, and tasks' addresses outlive their need for them by moments.
        """
        gone = {one.id for one in changes if isinstance(one, Delete)}
        for one in changes:
            if isinstance(one, Delete):
                held = self.where(AddressAllocation, "network", one.id) if one.kind is Network else ()
                lost = any(row.owner_kind == "container" and row.id not in gone for row in held)
            else:
                row = one.row
                lost = (
                    isinstance(row, AddressAllocation) and not row.version and self._lacks(row, gone, changes)
                )
            if lost:
                return "out_of_sequence", "update out of sequence"
        return None

    def _lacks(self, row: AddressAllocation, gone: set[str], changes: tuple[Change, ...]) -> bool:
        if self.get(Network, row.network_id) is not None:
            return row.network_id in gone
        return not any(isinstance(one, Put) and one.row.id == row.network_id for one in changes)

    def _put(self, before: Row | None, row: Row) -> None:
        self._rows[type(row)][row.id] = row
        keys = _keys(row)
        if before is not None:
            moved = [key for key in _keys(before) if key not in keys]
            self._unindex(before, moved)
        for name, value in keys:
            self._by.setdefault(name, {}).setdefault(value, {})[row.id] = row

    def _unindex(self, row: Row, keys: Iterable[tuple[str, str]]) -> None:
        for name, value in keys:
            bucket = self._by[name][value]
            del bucket[row.id]
            if not bucket:
                del self._by[name][value]


def _keys(row: Row) -> list[tuple[str, str]]:
    """Index and value of the indexed fields of a row."""
    if isinstance(row, Task):
        return [("Task.service", row.service_id), ("Task.node", row.node_id)]
    if isinstance(row, SpecVersion):
        return [("SpecVersion.service", row.service_id)]
    if isinstance(row, RegistryTag):
        return [("RegistryTag.repository", row.repository)]
    if isinstance(row, PortAllocation):
        return [] if is_of_a_route(row) else [("PortAllocation.number", number_of_row(row.id))]
    if isinstance(row, AddressAllocation):
        return [("AddressAllocation.network", row.network_id), ("AddressAllocation.owner", row.owner_id)]
    if isinstance(row, SingleContainer):
        return [("SingleContainer.node", row.node_id)]
    if isinstance(row, RegistryManifest):
        subject = [("RegistryManifest.subject", f"{row.repository}@{row.subject}")] if row.subject else []
        return [
            ("RegistryManifest.repository", row.repository),
            ("RegistryManifest.digest", row.digest),
            *subject,
        ]
    return [(f"{type(row).__name__}.{field}", value) for field, value in _unique(row).items()]


def _unique(row: Row) -> dict[str, str]:
    if isinstance(row, Service):
        return {"name": row.spec.name.lower()}
    if isinstance(row, Node):
        keys = {"number": str(row.number) if row.number else "", "join_key": row.join_key}
        return {field: value for field, value in keys.items() if value}
    if isinstance(row, JoinToken):
        return {"secret": row.secret_hash}
    if isinstance(row, Network | Secret):
        return {"name": row.name.lower()}
    return {}


def _exists(row: Row) -> str:
    if isinstance(row, Service):
        return f"name conflicts with an existing object: service {row.spec.name} already exists"
    if isinstance(row, PortAllocation):
        protocol, _, port = row.id.partition("@")[0].partition("/")
        if row.mode in SHARED and not row.service_id:
            return f"port {port}/{protocol} is shared by services that host names and paths lead to"
        return f"port {port}/{protocol} is already in use by service '{row.service_name}' ({row.service_id})"
    if isinstance(row, Network | Secret):
        return f"name conflicts with an existing object: {NAMES[type(row)]} {row.name} already exists"
    if isinstance(row, AddressAllocation):
        return f"address {row.address} is in use already (by {row.owner_kind} {row.owner_id})"
    return f"{NAMES[type(row)]} {row.id} already exists"
