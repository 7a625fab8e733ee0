"""Decide what nodes are told of a network: its services with their names, its tasks with their addresses.

A task is told of as long as it has its addresses and a node: others must be able to answer what it sends
before it is up.  It is up as it answers for published ports: what leads to it leaves before its stop signal.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from swarmd.manager.dispatcher.core.assignments import belongs
from swarmd.model.answering import answers
from swarmd.model.containers import SingleContainer
from swarmd.model.network import MTU
from swarmd.model.objects import Network, Node, Service, Task
from swarmd.model.states import NodeState


class Endpoint(msgspec.Struct, frozen=True):
    """A task in a network.  ``name``: ``SERVICE.SLOT.TASK``.

    A single container has no service, its own name, and ``aliases``.
    """

    task_id: str
    name: str
    service_id: str
    slot: int
    node_id: str
    addresses: tuple[str, ...]
    up: bool
    aliases: tuple[str, ...] = ()


class Named(msgspec.Struct, frozen=True):
    """A service in a network.  Without ``addresses`` its names lead to those of its tasks."""

    id: str
    name: str
    addresses: tuple[str, ...]
    aliases: tuple[str, ...]


class NetworkView(msgspec.Struct, frozen=True):
    """All that the nodes of a network are told of it, in a fixed order; compared by value."""

    id: str
    name: str
    subnets: tuple[str, ...]
    internal: bool
    encrypted: bool
    mtu: int
    services: tuple[Named, ...]
    endpoints: tuple[Endpoint, ...]

    @property
    def nodes(self) -> frozenset[str]:
        """Those that have to know of it: the ones its tasks are on."""
        return frozenset(one.node_id for one in self.endpoints)


def view(
    network: Network,
    services: Iterable[Service],
    tasks: Iterable[Task],
    dead: Collection[str],
    containers: Iterable[SingleContainer] = (),
) -> NetworkView:
    """``tasks``, ``containers``: those whose addresses there are theirs.  ``dead``: nodes that are down."""
    endpoints = [_endpoint(task, network.id, dead) for task in tasks if _is_told(task)]
    endpoints += [_single(one, network.id, dead) for one in containers if one.up]
    mtu = network.spec.options.get(MTU, "0")
    return NetworkView(
        id=network.id,
        name=network.name,
        subnets=tuple(one.subnet for one in network.subnets),
        internal=network.spec.internal,
        encrypted=network.spec.encrypted,
        mtu=int(mtu),
        services=tuple(sorted((_named(one, network.id) for one in services), key=lambda one: one.id)),
        endpoints=tuple(sorted(endpoints, key=lambda one: one.task_id)),
    )


Member = Service | Task | SingleContainer
"""Whoever may be told of in a network."""


def concerned(old: Member | None, new: Member | None) -> set[str]:
    """Networks of which something may be told otherwise, now that a row became another."""
    if isinstance(old, Task) and isinstance(new, Task) and _same_in_networks(old, new):
        return set()
    found: set[str] = set()
    for row in (old, new):
        if isinstance(row, Task | SingleContainer):
            found.update(one.network_id for one in row.networks)
        elif row is not None:
            found.update(one.target for one in row.spec.template.networks)
            found.update(one.network_id for one in row.vips)
    return found


def is_dead(node: Node | None) -> bool:
    return node is None or node.status.state is NodeState.DOWN


def _same_in_networks(old: Task, new: Task) -> bool:
    return (old.node_id, old.networks, _is_told(old), answers(old)) == (
        new.node_id, new.networks, _is_told(new), answers(new),
    )  # fmt: skip


def _is_told(task: Task) -> bool:
    return bool(task.node_id) and belongs(task) and not task.state.is_terminal


def _endpoint(task: Task, network_id: str, dead: Collection[str]) -> Endpoint:
    return Endpoint(
        task_id=task.id,
        name=f"{task.name}.{task.id}",
        service_id=task.service_id,
        slot=task.slot,
        node_id=task.node_id,
        addresses=next((one.addresses for one in task.networks if one.network_id == network_id), ()),
        up=answers(task) and task.node_id not in dead,
    )


def _single(row: SingleContainer, network_id: str, dead: Collection[str]) -> Endpoint:
    place = next(one for one in row.networks if one.network_id == network_id)
    return Endpoint(
        task_id=row.id,
        name=row.name,
        service_id="",
        slot=0,
        node_id=row.node_id,
        addresses=place.addresses,
        up=row.node_id not in dead,
        aliases=place.aliases,
    )


def _named(service: Service, network_id: str) -> Named:
    attachments = (one for one in service.spec.template.networks if one.target == network_id)
    vip = next((one.addresses for one in service.vips if one.network_id == network_id), ())
    aliases = next((one.aliases for one in attachments), ())
    return Named(service.id, service.spec.name, vip, aliases)
