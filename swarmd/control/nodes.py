"""What users do with nodes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import msgspec

from swarmd.control import lookup
from swarmd.control.again import insist
from swarmd.control.core import managers
from swarmd.kit.clock import Clock
from swarmd.model.errors import Invalid, Refused
from swarmd.model.objects import Cluster, Node, RemovedNode
from swarmd.model.replace import replace
from swarmd.model.states import Availability, NodeState, Role, TaskState
from swarmd.store.core.transaction import Change, Delete, Put
from swarmd.store.store import Store

BLACKLIST_GRACE = 7 * 86400.0
"""Seconds beyond a removed node's certificate for which it is refused (Swarm's own value)."""


class Group(msgspec.Struct, frozen=True):
    """The Raft group as the leader sees it: node ids."""

    members: Collection[str]
    reachable: Collection[str]
    leader: str | None


class NodeChange(msgspec.Struct, frozen=True):
    """What ``node update`` asks for; None and empty = leave as it is."""

    role: str | None = None
    availability: str | None = None
    label_add: Mapping[str, str] = {}
    label_rm: tuple[str, ...] = ()


class Nodes:
    """The use cases; runs on the leader."""

    def __init__(self, store: Store, clock: Clock, group: Callable[[], Group]) -> None:
        self._store = store
        self._clock = clock
        self._group = group

    def manager_status(self, node: Node) -> str:
        """ "Leader", "Reachable", "Unreachable", or "" for a worker."""
        group = self._group()
        return managers.status_of(node.id, group.members, group.leader, group.reachable)

    def can_lose_managers(self) -> int:
        group = self._group()
        return managers.can_lose(group.members, group.reachable)

    def warnings(self) -> list[str]:
        """Sentences: which managers cannot be reached, and what is wrong with how many there are."""
        group = self._group()
        names = {member: self._name(member) for member in group.members}
        return [*managers.about_missing(names, group.reachable), *managers.about_number(len(names))]

    def warnings_of_role(self, change: NodeChange) -> list[str]:
        """Sentences about the number of managers that users want, after a change of one's role."""
        wanted = [node for node in self._store.all(Node) if node.spec.role is Role.MANAGER]
        return managers.about_number(len(wanted)) if change.role is not None else []

    def _name(self, node_id: str) -> str:
        node = self._store.get(Node, node_id)
        return (node.description.hostname if node else "") or node_id

    async def update(self, ref: str, change: NodeChange) -> tuple[str, bool]:
        """Apply a change; answers (node id, whether anything was different)."""
        return await insist(lambda: self._update(ref, change))

    async def _update(self, ref: str, change: NodeChange) -> tuple[str, bool]:
        node = lookup.node(self._store, ref)
        spec = node.spec
        if change.availability is not None:
            spec = replace(spec, availability=_availability(change.availability))
        if change.role is not None:
            role = _role(change.role)
            if role is Role.WORKER and spec.role is Role.MANAGER:
                group = self._group()
                self._check_last_manager(node)
                managers.check_demotion(node, group.members, group.reachable)
            spec = replace(spec, role=role)
        labels = {key: value for key, value in spec.labels.items() if key not in change.label_rm}
        missing = [key for key in change.label_rm if key not in spec.labels]
        if missing:
            raise Invalid(f"key {missing[0]} doesn't exist in node's labels")
        spec = replace(spec, labels={**labels, **change.label_add})
        if spec == node.spec:
            return node.id, False
        await self._store.commit([Put(replace(node, spec=spec))])
        return node.id, True

    async def remove(self, ref: str, *, force: bool) -> str:
        """Forget a node: its tasks are orphaned and managers refuse its certificate from now on."""
        return await insist(lambda: self._remove(ref, force=force))

    async def _remove(self, ref: str, *, force: bool) -> str:
        node = lookup.node(self._store, ref)
        if node.id in self._group().members or node.spec.role is Role.MANAGER:
            raise Refused(
                f"node {node.id} is a cluster manager and is a member of the raft cluster. "
                "It must be demoted to worker before removal"
            )
        if node.status.state is NodeState.READY and not force:
            raise Refused(f"node {node.id} is not down and can't be removed")
        cluster = self._store.cluster() or Cluster(id="")
        life = max(cluster.spec.certificate_expiry, cluster.longest_expiry)
        until = self._clock.now() + life + BLACKLIST_GRACE
        changes: list[Change] = [
            Delete(Node, node.id, node.version),
            Put(RemovedNode(id=node.id, until=until)),
        ]
        for task in self._store.tasks_of_node(node.id):
            if not task.state.is_terminal:
                status = replace(
                    task.status, state=TaskState.ORPHANED, at=self._clock.now(), message="node removed"
                )
                changes.append(Put(replace(task, status=status)))
        await self._store.commit(changes)
        return node.id

    def _check_last_manager(self, node: Node) -> None:
        others = [n for n in self._store.all(Node) if n.spec.role is Role.MANAGER and n.id != node.id]
        if not others:
            raise Refused("attempting to demote the last manager of the swarm")


def _availability(text: str) -> Availability:
    try:
        return Availability(text.lower())
    except ValueError as error:
        raise Invalid(f'invalid Availability: "{text}"') from error


def _role(text: str) -> Role:
    try:
        return Role(text.lower())
    except ValueError as error:
        raise Invalid(f'invalid Role: "{text}"') from error
