"""Single containers in networks: what their nodes ask for becomes rows, at the leader.

node ──► attach ──► row and addresses in one transaction ──► snapshots of every node that is concerned
node ──► report (each time it finds a leader) ──► what it has no more is let go
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from swarmd.manager.allocator.core import attaching
from swarmd.manager.allocator.core.addresses import Turn, View
from swarmd.manager.allocator.core.standing import Standing
from swarmd.manager.allocator.viewing import view
from swarmd.model.containers import SingleContainer
from swarmd.model.errors import (
    Conflict,
    Denied,
    Invalid,
    NotFound,
    OutOfSequence,
    Refused,
    Unavailable,
)
from swarmd.model.network import NetworkAttachment
from swarmd.model.objects import AddressAllocation, Network, Node, Service, Task
from swarmd.model.replace import replace
from swarmd.store.core.transaction import Change
from swarmd.store.store import Store

ATTEMPTS = 20
"""Each begins with what is stored then: the allocator gives addresses at the same time."""

MOST = 1000
"""Containers of one node in networks: these grow, and none is to take all addresses of the pool."""


class Attachments:
    """The use cases of one manager while it leads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def attach(
        self, node_id: str, asked: SingleContainer, wanted: Sequence[NetworkAttachment]
    ) -> SingleContainer:
        """``asked`` says id, name and whether it is up.  Answers its row; without networks it has none.

        Raises Denied, NotFound, Invalid, Refused in words; Unavailable when it may work later.
        """
        attaching.check(asked, wanted)
        for _ in range(ATTEMPTS):
            found = self._attach(node_id, asked, wanted)
            try:
                await self._store.commit(found.changes)
            except (OutOfSequence, Conflict):
                continue
            if found.row is not None:
                now = self._store.get(SingleContainer, asked.id)
                return now if now is not None and now.networks == found.row.networks else found.row
        raise Unavailable("others took addresses of the same networks all the time: try again")

    def _attach(
        self, node_id: str, asked: SingleContainer, wanted: Sequence[NetworkAttachment]
    ) -> attaching.Attached:
        self._check_node(node_id)
        row = self._own(asked.id, node_id)
        if row is None and wanted and len(self._store.containers_of_node(node_id)) >= MOST:
            raise Refused(f"this node has {MOST} containers in networks, as many as a node may: remove some")
        now = replace(row or asked, name=asked.name, node_id=node_id, up=asked.up)
        held = self._held(asked.id)
        found = attaching.attach(now, wanted, held, self.network, Turn(self._view(wanted)))
        return attaching.Attached(found.row, ()) if row is not None and found.row == row else found

    async def report(
        self, node_id: str, reported: Sequence[SingleContainer]
    ) -> tuple[Collection[str], Collection[str]]:
        """What the node has of containers in networks; the rest is let go.  Answers ids: which are to be
        attached again, and which were let go.  Raises Denied, Unavailable."""
        self._check_node(node_id)
        rows = tuple(self._store.containers_of_node(node_id))
        there = {one.id for one in reported}
        gone = [row.id for row in rows if row.id not in there]
        for container_id in gone:
            await self.release(container_id)
        return attaching.others_wanted(rows, reported), gone

    async def release(self, container_id: str, network: str = "") -> None:
        """It leaves that network, or all.  What is gone already is no error."""
        for _ in range(ATTEMPTS):
            row = self._store.get(SingleContainer, container_id)
            if row is None:
                return
            held = self._held(container_id)
            changes: Iterable[Change] = (
                attaching.without(row, network, held) if network else attaching.released(row, held)
            )
            try:
                await self._store.commit(tuple(changes))
            except OutOfSequence:
                continue
            return
        raise Unavailable(f"container {container_id} is changed all the time: try again")

    def network(self, ref: str) -> Network:
        """By id, name, or a unique beginning of an id.  Raises NotFound, Invalid."""
        found = self._store.get(Network, ref) or self._store.network_by_name(ref)
        if found is not None:
            return found
        fits = [row for row in self._store.all(Network) if ref and row.id.startswith(ref)]
        if len(fits) > 1:
            raise Invalid(f"network {ref} is ambiguous: more than one id begins with it")
        if not fits:
            raise attaching.not_found(ref)
        return fits[0]

    def _check_node(self, node_id: str) -> None:
        if self._store.get(Node, node_id) is None:
            raise Denied(f"node {node_id} is not part of this swarm any more")

    def _own(self, container_id: str, node_id: str) -> SingleContainer | None:
        """Its row, if it has one.  Raises Denied for what is not this node's: whoever is told of a network
        knows the ids of all that is in it."""
        row = self._store.get(SingleContainer, container_id)
        if row is not None and row.node_id != node_id:
            raise Denied(f"container {row.id} is another node's")
        if self._store.get(Task, container_id) or self._store.get(Service, container_id):
            raise Denied(f"{container_id} is no container of node {node_id}")
        return row

    def _held(self, container_id: str) -> list[AddressAllocation]:
        rows = self._store.addresses_of(container_id)
        return [row for row in rows if row.owner_kind == attaching.KIND]

    def _view(self, wanted: Iterable[NetworkAttachment]) -> View:
        rows: list[AddressAllocation] = []
        for one in wanted:
            try:
                rows += self._store.addresses_in(self.network(one.target).id)
            except (NotFound, Invalid):
                continue  # that is said where it is looked for
        standing = Standing(rows, self._store.all(Service))
        return view(self._store, standing)
