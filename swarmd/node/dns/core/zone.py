"""Decide what the names in a network lead to, and which of them a container may see.

    SERVICE, ALIAS                      the service's virtual addresses; without any, those of its tasks
    tasks.SERVICE, tasks.ALIAS          the addresses of its tasks that are up
    SLOT.SERVICE, SERVICE.SLOT.TASK,    one task, up or not: members of a group find each other before
    TASK, first 12 characters of TASK   they are ready
    CONTAINER, its aliases              single ones that are up; if none of that name is, all
    the address, backwards              SERVICE.SLOT.TASK.NETWORK or SERVICE.NETWORK

Each of them also with ``.NETWORK`` behind it.  Names are compared without regard to case.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network

from swarmd.node.dns.core import wire
from swarmd.node.network.port import Endpoint, NetworkState, NetworkView, ServiceView

SERVICE_TTL = 600
"""Seconds a service's virtual address may be remembered: it stays as long as the service does."""

TASK_TTL = 5
"""Seconds the address of a task may be remembered."""

Records = Mapping[int, tuple[bytes, ...]]
"""Type → records of a name, which may have none of a type; no types at all: there is no such name."""

_Lead = tuple[int, Sequence[str]]  # TTL, addresses


class Names:
    """Names and the addresses they lead to; encoded when they are first asked for."""

    def __init__(self) -> None:
        self._leads: dict[str, list[_Lead]] = {}
        self._encoded: dict[bytes, Records] = {}

    def add(self, name: str, ttl: int, addresses: Sequence[str]) -> None:
        """Addresses that are there already for this name stay."""
        name = name.lower()
        if name in self._leads:
            self._leads[name].append((ttl, addresses))
        elif name:
            self._leads[name] = [(ttl, addresses)]

    def find(self, key: bytes) -> Records | None:
        """What the name with these labels (in lower case) leads to; None: no such name."""
        found = self._encoded.get(key)
        if found is None and (leads := self._leads.get(wire.words(key))) is not None:
            found = self._encoded[key] = _records(leads)
        return found


def _records(leads: Iterable[_Lead]) -> Records:
    ttls: dict[str, int] = {}
    for ttl, addresses in leads:
        for address in addresses:
            ttls[address] = min(ttl, ttls.get(address, ttl))
    least = min(ttls.values(), default=0)  # records of one name and type have one TTL (RFC 2181)
    made: dict[int, list[bytes]] = {wire.A: [], wire.AAAA: []}
    for address in ttls:
        packed = ip_address(address).packed
        made[wire.A if len(packed) == 4 else wire.AAAA].append(wire.address_record(packed, least))
    return {kind: tuple(records) for kind, records in made.items()}


class Zone:
    """The names of one network; filed when somebody first asks: the next snapshot may come before that."""

    def __init__(
        self, network: NetworkView, services: tuple[ServiceView, ...], endpoints: tuple[Endpoint, ...]
    ) -> None:
        self.made_of = (network, services, endpoints)
        self.internal = network.internal
        self.suffix = wire.labels(network.name.lower())
        self._names: Names | None = None
        self._reverse: dict[str, tuple[str, int]] | None = None

    def find(self, key: bytes) -> Records | None:
        """What the name with these labels (in lower case) leads to; None: no such name."""
        if self._names is None:
            self._names = _filed(*self.made_of[1:])
        return self._names.find(key)

    def backwards(self, address: str) -> Records | None:
        """The name of an address; no types when the network has nobody there; None when it is not its."""
        if self._reverse is None:
            self._reverse = dict(_backwards(*self.made_of[1:]))
        name, ttl = self._reverse.get(address, ("", 0))
        if name and wire.labels(full := f"{name}.{self.made_of[0].name}"):
            return {wire.PTR: (wire.pointer_record(full, ttl),)}
        parsed = ip_address(address)
        subnets = (ip_network(subnet, strict=False) for subnet in self.made_of[0].subnets)
        return {} if any(parsed in subnet for subnet in subnets) else None


def _filed(services: tuple[ServiceView, ...], endpoints: tuple[Endpoint, ...]) -> Names:
    names = Names()
    titles = {service.id: service.name for service in services}
    up: dict[str, list[str]] = {service.id: [] for service in services}
    shared: dict[str, tuple[list[str], list[str]]] = {}
    for one in endpoints:
        for name in (one.task_id, one.task_id[:12]):
            names.add(name, TASK_TTL, one.addresses)
        if one.up and one.service_id in titles:
            up[one.service_id] += one.addresses
        for name in _shared(one, titles):
            ready, others = shared.setdefault(name.lower(), ([], []))
            (ready if one.up else others).extend(one.addresses)
    for name, (ready, others) in shared.items():
        names.add(name, TASK_TTL, ready or others)
    for service in services:
        virtual = service.addresses
        for name in (service.name, *service.aliases):
            names.add(name, SERVICE_TTL if virtual else TASK_TTL, virtual or up[service.id])
            names.add(f"tasks.{name}", TASK_TTL, up[service.id])
    return names


def _shared(one: Endpoint, titles: Mapping[str, str]) -> Iterable[str]:
    """Names that another may have as well: the next task of a slot, a container of another node."""
    slot = one.slot and titles.get(one.service_id)
    return (one.name, *one.aliases, *((f"{one.slot}.{slot}",) if slot else ()))


def _backwards(
    services: tuple[ServiceView, ...], endpoints: tuple[Endpoint, ...]
) -> Iterator[tuple[str, tuple[str, int]]]:
    """(address, (name without that of the network, TTL)) of all addresses."""
    for one in endpoints:
        for address in one.addresses:
            yield _canonical(address), (one.name or one.task_id, TASK_TTL)
    for service in services:
        for address in service.addresses:
            yield _canonical(address), (service.name, SERVICE_TTL)


def _canonical(address: str) -> str:
    return str(ip_address(address)) if ":" in address else address


def zones(
    state: NetworkState, before: Mapping[str, Zone], unreachable: Collection[str] = ()
) -> dict[str, Zone]:
    """The networks of a snapshot by id, those of ``before`` where nothing has changed.

    Tasks on ``unreachable`` nodes (ids) are not up, unless that leaves a service with none at all: then it is
    this node that sees nobody.
    """
    away = {*unreachable, *(node.id for node in state.nodes if not node.alive)}
    services: dict[str, list[ServiceView]] = {}
    for service in state.services:
        services.setdefault(service.network_id, []).append(service)
    endpoints: dict[str, list[Endpoint]] = {}
    for endpoint in _without(state.endpoints, away):
        endpoints.setdefault(endpoint.network_id, []).append(endpoint)
    made: dict[str, Zone] = {}
    for network in state.networks:
        of = (network, tuple(services.get(network.id, ())), tuple(endpoints.get(network.id, ())))
        old = before.get(network.id)
        made[network.id] = old if old is not None and old.made_of == of else Zone(*of)
    return made


def _without(endpoints: tuple[Endpoint, ...], away: set[str]) -> Iterable[Endpoint]:
    if not away:
        return endpoints
    seen = {(one.network_id, one.service_id) for one in endpoints if one.up and one.node_id not in away}
    return (
        _down(one) if one.up and one.node_id in away and (one.network_id, one.service_id) in seen else one
        for one in endpoints
    )


def _down(one: Endpoint) -> Endpoint:
    return Endpoint(
        one.task_id, one.name, one.service_id, one.slot, one.node_id, one.network_id, one.addresses,
        one.aliases, up=False,
    )  # fmt: skip
