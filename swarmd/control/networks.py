"""What users do with networks: check, then one transaction.

Two networks must not get the same prefix, whatever happens at once: whoever gives one writes the row of the
ingress network with it, so that of two only one is in time and the other looks again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from swarmd.control import lookup
from swarmd.control.again import insist
from swarmd.control.core import networks as rules
from swarmd.image.core.selection import Selection
from swarmd.kit.ids import NewId
from swarmd.model import subnets
from swarmd.model.containers import SingleContainer
from swarmd.model.errors import Conflict, Invalid, NotFound, OutOfSequence, Refused
from swarmd.model.network import NetworkSpec, attachments
from swarmd.model.objects import Network, Node, Service, SpecVersion, Task
from swarmd.model.replace import replace
from swarmd.model.spec import ClusterSpec, ServiceSpec
from swarmd.model.states import NodeState
from swarmd.store.core.transaction import Change, Delete, Put
from swarmd.store.store import Store


class Usage(msgspec.Struct, frozen=True):
    """Who has to do with a network.  ``taken`` of its ``size`` IPv4 addresses somebody has."""

    services: tuple[Service, ...]
    tasks: tuple[Task, ...]
    taken: int
    size: int
    containers: tuple[SingleContainer, ...] = ()


class Networks:
    """The use cases; runs on the leader, but for reading."""

    def __init__(self, store: Store, new_id: NewId) -> None:
        self._store = store
        self._new_id = new_id

    async def create(self, spec: NetworkSpec) -> Network:
        """Raises Invalid naming the field, Conflict for a taken name, Refused when a pool is used up."""
        spec = rules.checked(spec)
        return await insist(lambda: self._create(spec), self._store.queue)

    async def _create(self, spec: NetworkSpec) -> Network:
        if self._store.network_by_name(spec.name) is not None:
            raise Conflict(f"network with name {spec.name} already exists")
        cluster = self._store.cluster()
        settings = cluster.spec if cluster is not None else ClusterSpec()
        row = Network(
            id=self._new_id(),
            name=spec.name,
            driver=spec.driver,
            spec=spec,
            subnets=rules.prefixes(spec, self._taken(), self._nodes(), settings),
        )
        try:
            await self._store.commit([Put(row), *self._in_turn()])
        except Conflict:
            if self._store.network_by_name(spec.name) is None:
                raise
            raise Conflict(f"network with name {spec.name} already exists") from None
        return self._store.get(Network, row.id) or row

    def all(self) -> list[Network]:
        """By name; the ingress network, too."""
        return sorted(self._store.all(Network), key=lambda row: row.name)

    def get(self, ref: str) -> Network:
        """Raises NotFound, or Invalid when a prefix fits several."""
        return lookup.network(self._store, ref)

    def usage(self, network: Network) -> Usage:
        """Services whose spec names it, tasks with an address there that have not ended, single containers,
        addresses."""
        owners = {row.owner_id for row in self._store.addresses_in(network.id)}
        tasks = [task for owner in owners if (task := self._store.get(Task, owner)) is not None]
        singles = [one for key in owners if (one := self._store.get(SingleContainer, key)) is not None]
        spans = [subnets.span(one) for one in network.subnets]
        return Usage(
            services=tuple(row for row in self._store.all(Service) if _names(row, network.id)),
            tasks=tuple(task for task in tasks if not task.state.is_terminal),
            taken=sum(1 for row in self._store.addresses_in(network.id) if ":" not in row.address),
            size=sum(one.size for one in spans if one.version == 4),
            containers=tuple(sorted(singles, key=lambda row: (row.name, row.id))),
        )

    async def remove(self, ref: str) -> Network:
        """Raises NotFound, Refused naming who uses it."""
        return await insist(lambda: self._remove(ref), self._store.queue)

    async def _remove(self, ref: str) -> Network:
        network = self.get(ref)
        usage = self.usage(network)
        tasks = {task.id: task for task in (*usage.tasks, *self._coming(network))}
        rules.removable(
            network,
            [row.spec.name for row in usage.services],
            [_called(task) for task in tasks.values()],
            [(row.name, row.id) for row in usage.containers],
        )
        await self._store.commit([Delete(Network, network.id, network.version)])
        return network

    def attached(self, network: Network, ref: str) -> SingleContainer:
        """A single container that can be let go of, by name, id or beginning of one.

        Raises NotFound, Invalid; Refused while its node is there to do it itself.
        """
        there = self.usage(network).containers
        found = [row for row in there if row.id == ref] or [row for row in there if row.name == ref]
        found = found or [row for row in there if ref and row.id.startswith(ref)]
        if not found:
            raise NotFound(f"container {ref} is not connected to network {network.name}")
        if len(found) > 1:
            on = ", ".join(row.id[:12] for row in found)
            raise Invalid(f"several containers in network {network.name} are called {ref}: use an id ({on})")
        node = self._store.get(Node, found[0].node_id)
        if node is not None and node.status.state is not NodeState.DOWN:
            raise Refused(
                f"container {found[0].name} is on node {node.description.hostname}, which is not down: "
                "disconnect it there"
            )
        return found[0]

    async def prune(self, selection: Selection) -> list[str]:
        """Remove those that nobody uses; answers their names."""
        gone: list[str] = []
        for row in self.all():
            if not row.ingress and selection.takes(row.created_at, row.spec.labels):
                try:
                    await self.remove(row.id)
                except (Refused, NotFound, OutOfSequence):
                    continue  # in use, or somebody has removed it meanwhile
                gone.append(row.name)
        return gone

    def _coming(self, network: Network) -> Iterable[Task]:
        """Tasks of a version that an update has not replaced yet, some without their address so far."""
        for version in self._store.all(SpecVersion):
            if any(one.target == network.id for one in version.template.networks):
                for task in self._store.tasks_of_service(version.service_id):
                    if task.spec_version == version.number and task.is_live:
                        yield task

    def _taken(self) -> Mapping[str, str]:
        rows = self._store.all(Network)
        return {one.subnet: row.name for row in rows for one in row.subnets}

    def _nodes(self) -> Mapping[str, str]:
        rows = (row for row in self._store.all(Node) if row.status.address)
        return {row.status.address: row.description.hostname or row.id for row in rows}

    def _in_turn(self) -> Iterable[Change]:
        return [Put(replace(row)) for row in self._store.all(Network) if row.ingress]


def held(store: Store, spec: ServiceSpec) -> list[Change]:
    """Changes that fail if one of the spec's networks is removed meanwhile, and make its removal fail.

    Raises NotFound for one that is gone.
    """
    wanted = sorted({one.target for one in attachments(spec.template.networks)})
    return [Put(lookup.network(store, target)) for target in wanted]


def _names(service: Service, network_id: str) -> bool:
    return any(one.target == network_id for one in service.spec.template.networks)


def _called(task: Task) -> str:
    return f"{task.name}.{task.id}"
