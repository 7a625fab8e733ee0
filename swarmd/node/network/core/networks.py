"""From the networks of this node's tasks to the elements of the ruleset's sets, and what changed since.

Kinds of addresses: a *virtual* one leads to any container of its service; a container's own one to it alone.
Keys and values are encoded as in :mod:`swarmd.node.mesh.core.table`.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from itertools import product

from msgspec import Struct

from swarmd.model.addressing import POOL, POOL6
from swarmd.node.mesh.core.buckets import SMALL, assign, size_for
from swarmd.node.mesh.core.table import Elements, Table, Tables
from swarmd.node.network.core.addresses import BACKEND_IS, packed
from swarmd.node.network.core.family import FAMILIES, Family, family_of
from swarmd.node.network.port import (
    Attachment,
    Endpoint,
    NetworkState,
    NetworkView,
    NodeView,
    ServiceView,
    addresses_of,
)

Spread = Mapping[str, tuple[str, ...]]
"""The buckets of each virtual address."""
Prefixes = tuple[IPv4Network | IPv6Network, ...]


class Usable(Struct, frozen=True):
    """Networks that can be, and by id why the others cannot."""

    networks: tuple[NetworkView, ...]
    clashes: Mapping[str, str]


def usable(state: NetworkState) -> Usable:
    """A network over addresses of nodes would cut them off: the rest of the node goes on without it."""
    fine: list[NetworkView] = []
    clashes: dict[str, str] = {}
    taken: Prefixes = (POOL, POOL6)
    for network in state.networks:
        prefixes = tuple(ip_network(subnet) for subnet in network.subnets)
        why = _clash(prefixes, taken, state.nodes)
        if why:
            clashes[network.id] = f"network {network.name} cannot be used on this node: {why}"
        else:
            fine.append(network)
            taken += prefixes
    return Usable(tuple(fine), clashes)


def _clash(prefixes: Prefixes, taken: Prefixes, nodes: Iterable[NodeView]) -> str:
    for ours in prefixes:
        for other in taken:
            if ours.version == other.version and ours.overlaps(other):
                return f"its prefix {ours} overlaps {other}, which the swarm uses already"
        for node in nodes:
            if ours.version == 4 and IPv4Address(node.address) in ours:
                return f"its prefix {ours} contains {node.address}, the address of a node of the swarm"
    return ""


def living(nodes: Iterable[NodeView], masked: Collection[str]) -> frozenset[str]:
    """Ids of the nodes whose tasks can be reached."""
    return frozenset(node.id for node in nodes if node.alive and node.id not in masked)


def spread(
    services: Iterable[ServiceView], endpoints: Iterable[Endpoint], alive: Collection[str], previous: Spread
) -> dict[str, tuple[str, ...]]:
    """The buckets of every virtual address, as near to the ``previous`` ones as fairness allows."""
    behind: dict[tuple[str, str], list[Endpoint]] = {}
    for endpoint in endpoints:
        if endpoint.up and endpoint.node_id in alive:
            behind.setdefault((endpoint.service_id, endpoint.network_id), []).append(endpoint)
    out: dict[str, tuple[str, ...]] = {}
    for service in services:
        for virtual in service.addresses:
            family = family_of(virtual)
            members = {
                address
                for endpoint in behind.get((service.id, service.network_id), ())
                for address in endpoint.addresses
                if family_of(address) == family
            }
            size = size_for(len(members))
            before = previous.get(virtual, ())
            out[virtual] = assign(before if len(before) == size else (), members, size)
    return out


def virtual_tables(buckets: Spread) -> Tables:
    """The maps from (virtual address, bucket) to a container."""
    made: Tables = {family: {"vip": {}, "vip_large": {}} for family in FAMILIES}
    for virtual, members in buckets.items():
        head = packed(virtual)
        chosen = made[family_of(virtual)]["vip" if len(members) <= SMALL else "vip_large"]
        for number, address in enumerate(members):
            chosen[head + struct.pack("=I", number)] = packed(address)
    return made


def network_tables(
    networks: Iterable[NetworkView],
    endpoints: Iterable[Endpoint],
    nodes: Iterable[NodeView],
    *,
    virtual: Iterable[str],
    alive: Collection[str],
    self_id: str,
) -> Tables:
    """Who may speak to whom, what leads to nobody, and which node a task is on."""
    made: Tables = {family: _pairs(networks, family) for family in FAMILIES}
    numbers = {node.id: node.number for node in nodes if node.id != self_id}
    for address in virtual:
        made[family_of(address)]["refused"][packed(address)] = None
    for endpoint in endpoints:
        for address in endpoint.addresses:
            table, key = made[family_of(address)], packed(address)
            if endpoint.node_id not in alive:
                table["refused"][key] = None
            if endpoint.node_id in numbers:
                table["node_of"][key] = struct.pack("=I", BACKEND_IS | numbers[endpoint.node_id])
    return made


def _pairs(networks: Iterable[NetworkView], family: Family) -> Table:
    same: Elements = {}
    secured: Elements = {}
    for network in networks:
        prefixes = [ip_network(subnet) for subnet in network.subnets if family_of(subnet) == family]
        if network.encrypted:
            secured.update(
                (one.network_address.packed + (one.broadcast_address + 1).packed, None) for one in prefixes
            )
        for one, other in product(prefixes, repeat=2):
            first = one.network_address.packed + other.network_address.packed
            same[first + one.broadcast_address.packed + other.broadcast_address.packed] = None
    return {"samenet": same, "secured": secured, "refused": {}, "node_of": {}}


def inward(attachments: Iterable[Attachment], networks: Mapping[str, NetworkView]) -> Tables:
    """The addresses of containers that are in networks without a way out, and in no other."""
    made: Tables = {family: {"inward": {}} for family in FAMILIES}
    for place in attachments:
        views = [networks.get(network_id) for network_id, _ in place.networks]
        if views and all(view is not None and view.internal for view in views):
            for address in addresses_of(place):
                made[family_of(address)]["inward"][packed(address)] = None
    return made


def abandoned(before: Spread, after: Spread) -> tuple[str, ...]:
    """Containers that answered for some virtual address and no longer do: what clients send there without a
    connection must be sent elsewhere."""
    was = {(virtual, member) for virtual, members in before.items() for member in members}
    now = {(virtual, member) for virtual, members in after.items() for member in members}
    return tuple(sorted({member for _, member in was - now}))
