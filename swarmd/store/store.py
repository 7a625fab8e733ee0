"""The replicated truth as its users see it: read rows, commit changes, watch events."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError

from swarmd.kit.clock import Clock
from swarmd.model.containers import SingleContainer
from swarmd.model.errors import KINDS as ERROR_KINDS
from swarmd.model.objects import (
    FEATURE_LEVEL,
    AddressAllocation,
    Cluster,
    JoinToken,
    Network,
    Node,
    Row,
    Secret,
    Service,
    SpecVersion,
    Task,
    spec_version_id,
)
from swarmd.model.registry import RegistryManifest, RegistryTag
from swarmd.store.core import transaction
from swarmd.store.core.levels import fit
from swarmd.store.core.tables import Event, Outcome, Tables
from swarmd.store.core.transaction import Change, Put
from swarmd.store.raft.port import StateView
from swarmd.store.watch import EventLog, Watch

R = TypeVar("R", bound=Row)


class Proposes(Protocol):
    """The part of the Raft port that a store needs."""

    async def propose(self, command: bytes, *, timeout: float = 10.0) -> object: ...


class StoreState:
    """The state machine behind the log: applies entries, keeps the event ring.

    ``level``: the feature level it understands; a lower one makes it behave as an earlier version.
    """

    def __init__(self, *, level: int = FEATURE_LEVEL) -> None:
        self.level = level
        self.tables = Tables()
        self.events = EventLog()

    def apply(self, index: int, command: bytes) -> Outcome:
        """Apply one entry; one that nobody can read is refused by every replica alike.

        Raises NotUnderstood for one that a newer version can read.
        """
        try:
            parsed = transaction.decode(command, self.level)
        except (DecodeError, ValueError) as error:
            return Outcome(index=index, error_kind="internal", error=f"unreadable transaction: {error}")
        outcome = self.tables.apply(index, parsed)
        self.events.add(outcome.events)
        return outcome

    def view(self) -> StateView:
        """All rows as they are now: rows never change, so a list of them is a copy of the state."""
        index, rows = self.tables.index, self.tables.rows()
        level = max((cluster.feature_level for cluster in self.tables.all(Cluster)), default=0)
        return lambda: transaction.encode_rows(index, rows, level)

    def restore(self, index: int, data: bytes) -> None:
        """Replace everything by a snapshot; empty bytes are the empty store.  Raises NotUnderstood."""
        rows: list[Row] = []
        if data:
            _, rows = transaction.decode_rows(data, self.level)
        self.tables.load(index, rows)
        self.events.reset(index)


class Store:
    """Reads are local and immediate; :meth:`commit` returns when this replica has applied the change.

    ``queue``: for whoever lost a race for rows that many write; who holds it is alone with the control loops.
    """

    def __init__(self, state: StoreState, proposer: Proposes, clock: Clock) -> None:
        self._state = state
        self._proposer = proposer
        self._clock = clock
        self.queue = asyncio.Lock()

    @property
    def index(self) -> int:
        """Applied transactions, counted across epochs: the same on every manager."""
        return self._state.tables.index

    def get(self, kind: type[R], row_id: str) -> R | None:
        return self._state.tables.get(kind, row_id)

    def all(self, kind: type[R]) -> Collection[R]:
        return self._state.tables.all(kind)

    def rows(self) -> list[Row]:
        """Every row there is, at this moment."""
        return self._state.tables.rows()

    def tasks_of_service(self, service_id: str) -> Collection[Task]:
        return self._state.tables.where(Task, "service", service_id)

    def tasks_of_node(self, node_id: str) -> Collection[Task]:
        return self._state.tables.where(Task, "node", node_id)

    def spec_versions_of(self, service_id: str) -> Collection[SpecVersion]:
        return self._state.tables.where(SpecVersion, "service", service_id)

    def spec_version(self, service_id: str, number: int) -> SpecVersion | None:
        return self.get(SpecVersion, spec_version_id(service_id, number))

    def service_by_name(self, name: str) -> Service | None:
        return next(iter(self._state.tables.where(Service, "name", name.lower())), None)

    def network_by_name(self, name: str) -> Network | None:
        return next(iter(self._state.tables.where(Network, "name", name.lower())), None)

    def addresses_in(self, network_id: str) -> Collection[AddressAllocation]:
        return self._state.tables.where(AddressAllocation, "network", network_id)

    def addresses_of(self, owner_id: str) -> Collection[AddressAllocation]:
        """By the id of the task, service or container that has them."""
        return self._state.tables.where(AddressAllocation, "owner", owner_id)

    def containers_of_node(self, node_id: str) -> Collection[SingleContainer]:
        return self._state.tables.where(SingleContainer, "node", node_id)

    def secret_by_name(self, name: str) -> Secret | None:
        return next(iter(self._state.tables.where(Secret, "name", name.lower())), None)

    def node_by_join_key(self, key: str) -> Node | None:
        return next(iter(self._state.tables.where(Node, "join_key", key)), None)

    def token_by_hash(self, secret_hash: str) -> JoinToken | None:
        return next(iter(self._state.tables.where(JoinToken, "secret", secret_hash)), None)

    def in_repository(self, repository: str) -> Collection[RegistryManifest]:
        return self._state.tables.where(RegistryManifest, "repository", repository)

    def manifests(self, digest: str) -> Collection[RegistryManifest]:
        """By digest, in whichever repository."""
        return self._state.tables.where(RegistryManifest, "digest", digest)

    def referrers(self, repository: str, digest: str) -> Collection[RegistryManifest]:
        return self._state.tables.where(RegistryManifest, "subject", f"{repository}@{digest}")

    def tags_in(self, repository: str) -> Collection[RegistryTag]:
        return self._state.tables.where(RegistryTag, "repository", repository)

    def cluster(self) -> Cluster | None:
        """The one cluster row, once the swarm is initialised."""
        return next(iter(self.all(Cluster)), None)

    def watch(self, after: int | None = None) -> Watch:
        """Events from the present state on, or those after transaction ``after`` (on any manager)."""
        return self._state.events.watch(after)

    def index_before(self, at: float) -> int:
        """The index after which all that the ring holds happened at ``at`` (seconds since 1970) or later."""
        first = next((event.index for event in self._state.events.held() if event.at >= at), self.index + 1)
        return max(first - 1, self._state.events.floor)

    async def commit(self, changes: Sequence[Change], *, timeout: float = 10.0) -> int:
        """All of ``changes`` or none; answers the index.

        Raises OutOfSequence when a row changed meanwhile, Conflict when a name or port is taken,
        Unavailable when there is no leader, quorum or disk, or a manager too old for what is asked.
        """
        if not changes:
            return self.index
        level = self._level()
        if level < FEATURE_LEVEL:
            changes = [Put(fit(one.row, level)) if isinstance(one, Put) else one for one in changes]
        command = transaction.encode(self._clock.now(), changes, level)
        outcome = await self._proposer.propose(command, timeout=timeout)
        assert isinstance(outcome, Outcome)
        if outcome.error_kind:
            raise ERROR_KINDS[outcome.error_kind](outcome.error)
        return outcome.index

    def _level(self) -> int:
        """The feature level to write at; a swarm that is being founded begins with ours."""
        cluster = self.cluster()
        return self._state.level if cluster is None else min(cluster.feature_level, self._state.level)


__all__ = ["Event", "Store", "StoreState"]
