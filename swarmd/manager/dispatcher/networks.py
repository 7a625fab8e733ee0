"""What each node is to be told of the networks its tasks are in, kept up with the store.

Only networks that an event is about are looked at again, and only their nodes are woken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from swarmd.manager.dispatcher.core.networks import Member, NetworkView, concerned, is_dead, view
from swarmd.model.containers import SingleContainer
from swarmd.model.objects import AddressAllocation, Network, Node, Service, Task
from swarmd.rpc.v1 import agent_pb2
from swarmd.store.core.tables import Event
from swarmd.store.store import Store


class Told(msgspec.Struct, frozen=True):
    """The parts of a snapshot, one for each network; the same object as long as nothing changed."""

    version: int = 0
    parts: tuple[agent_pb2.NetworkSnapshot, ...] = ()


NOTHING = Told()


class NetworkBoard:
    """Of one leader's term."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._views: dict[str, NetworkView] = {}
        self._parts: dict[str, agent_pb2.NetworkSnapshot] = {}
        self._told: dict[str, Told] = {}
        self._of_node: dict[str, set[str]] = {}
        self.look_again()

    def of_node(self, node_id: str) -> Told:
        return self._told.get(node_id, NOTHING)

    def look_again(self) -> Collection[str]:
        """At everything; answers the nodes that have to be told."""
        return self._look(self._views.keys() | {row.id for row in self._store.all(Network)})

    def react(self, events: Iterable[Event]) -> Collection[str]:
        """At what these are about; answers the nodes that have to be told."""
        networks: set[str] = set()
        for event in events:
            old, new = event.old, event.new
            if isinstance(old or new, Member):
                networks |= concerned(
                    old if isinstance(old, Member) else None,
                    new if isinstance(new, Member) else None,
                )
            elif isinstance(row := old or new, Network):
                networks.add(row.id)
            elif isinstance(row, AddressAllocation) and new is None:
                networks.add(row.network_id)
            elif isinstance(row, Node) and _died_or_came_back(event):
                networks |= self._of_node.get(row.id, set())
        return self._look(networks)

    def _look(self, networks: Collection[str]) -> Collection[str]:
        nodes: set[str] = set()
        for network_id in networks:
            before, after = self._views.get(network_id), self._view(network_id)
            if before == after:
                continue
            was = before.nodes if before is not None else frozenset()
            now = after.nodes if after is not None else frozenset()
            nodes |= was | now
            self._keep(network_id, after)
            for node_id in was - now:
                self._of_node[node_id].discard(network_id)
            for node_id in now - was:
                self._of_node.setdefault(node_id, set()).add(network_id)
        for node_id in nodes:
            parts = tuple(self._parts[one] for one in sorted(self._of_node[node_id]))
            self._told[node_id] = Told(self._store.index, parts)
        return nodes

    def _view(self, network_id: str) -> NetworkView | None:
        network = self._store.get(Network, network_id)
        if network is None or network.ingress:
            return None
        owners = {row.owner_id for row in self._store.addresses_in(network_id)}
        tasks = [task for one in owners if (task := self._store.get(Task, one)) is not None]
        named = {task.service_id for task in tasks} | owners
        services = [row for one in named if (row := self._store.get(Service, one)) is not None]
        singles = [one for key in owners if (one := self._store.get(SingleContainer, key)) is not None]
        containers = [one for one in singles if any(n.network_id == network_id for n in one.networks)]
        on = {task.node_id for task in tasks if task.node_id} | {one.node_id for one in containers}
        dead = {one for one in on if is_dead(self._store.get(Node, one))}
        return view(network, services, tasks, dead, containers)

    def _keep(self, network_id: str, after: NetworkView | None) -> None:
        if after is None:
            self._views.pop(network_id, None)
            self._parts.pop(network_id, None)
        else:
            self._views[network_id] = after
            self._parts[network_id] = _part(after)


def _died_or_came_back(event: Event) -> bool:
    old = event.old if isinstance(event.old, Node) else None
    new = event.new if isinstance(event.new, Node) else None
    return is_dead(old) != is_dead(new)


def _part(network: NetworkView) -> agent_pb2.NetworkSnapshot:
    part = agent_pb2.NetworkSnapshot()
    part.networks.add(
        id=network.id,
        name=network.name,
        subnets=network.subnets,
        internal=network.internal,
        encrypted=network.encrypted,
        mtu=network.mtu,
    )
    for service in network.services:
        part.services.add(
            id=service.id,
            name=service.name,
            network_id=network.id,
            addresses=service.addresses,
            aliases=service.aliases,
        )
    for one in network.endpoints:
        part.endpoints.add(
            task_id=one.task_id,
            name=one.name,
            service_id=one.service_id,
            slot=one.slot,
            node_id=one.node_id,
            network_id=network.id,
            addresses=one.addresses,
            up=one.up,
            aliases=one.aliases,
        )
    return part
