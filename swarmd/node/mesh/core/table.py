"""From a snapshot of the swarm to the elements of the mesh's sets and maps, and what changed since.

Keys and values are encoded as the kernel compares them: each field padded to four bytes, ports in network
order, bucket numbers and marks in the machine's own.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network

from msgspec import Struct

from swarmd.model.addressing import block6_of
from swarmd.node.network.core.addresses import (
    BACKEND_IS,
    INGRESS_IS,
    block_of,
    gateway6_of,
    gateway_of,
    overlay_mac,
    packed,
)
from swarmd.node.network.core.family import FAMILIES, IP, Family, family_of
from swarmd.node.network.port import (
    Attachment,
    NodeView,
    PublishedPort,
    Transport,
    addresses_of,
)

Elements = dict[bytes, bytes | None]
Table = dict[str, Elements]
"""Set or map name → its elements."""
Tables = dict[Family, Table]

INTERVALS = frozenset({"pools", "node_by_prefix", "secured"})
"""Sets of prefixes: a key is the first address and the one after the last."""
RANGES = frozenset({"allowed", "allowed_at", "samenet"})
"""Sets of prefixes among other fields: a key is the first of each field and then the last of each."""
_NUMBERS: dict[Transport, int] = {"tcp": 6, "udp": 17, "sctp": 132}


class Difference(Struct, frozen=True):
    """What to remove and add so that one set becomes another.  A changed value is removed and added."""

    remove: Elements
    add: Elements

    def __bool__(self) -> bool:
        return bool(self.remove or self.add)

    def then(self, later: Difference) -> Difference:
        """Both, one after the other."""
        remove, add = dict(self.remove), dict(self.add)
        for key, old in later.remove.items():
            if key in add:
                del add[key]
            else:
                remove[key] = old
        for key, new in later.add.items():
            if key in remove and remove[key] == new:
                del remove[key]
            else:
                add[key] = new
        return Difference(remove, add)


Changes = dict[Family, dict[str, Difference]]
"""What becomes different in which set."""


def node_tables(nodes: Collection[NodeView], self_id: str, subnets: Collection[str] = ()) -> Tables:
    """Who may send overlay frames, whose containers live where, and the way back for each ingress node.

    ``subnets``: prefixes of networks that tasks of this node are in; those are containers, too.
    """
    made = {family: _node_table(nodes, self_id, family) for family in FAMILIES}
    for subnet in subnets:
        made[family_of(subnet)]["pools"][_interval(ip_network(subnet))] = None
    return made


def _node_table(nodes: Iterable[NodeView], self_id: str, family: Family) -> Table:
    names = ("pools", "nodes", "node_by_mac", "zone_by_mac", "vtep_by_mark", "node_by_prefix")
    table: Table = {name: {} for name in names}
    for node in nodes:
        block = _interval(block_of(node) if family == IP else IPv6Network(block6_of(node.number)))
        table["pools"][block] = None
        if family == IP:
            table["nodes"][packed(node.address)] = None
        if node.id == self_id:
            continue
        ingress = struct.pack("=I", INGRESS_IS | node.number)
        table["node_by_mac"][overlay_mac(node.number)] = ingress
        table["zone_by_mac"][overlay_mac(node.number)] = struct.pack("=H", node.number)
        table["vtep_by_mark"][ingress] = packed(
            gateway_of(node) if family == IP else gateway6_of(node.number)
        )
        table["node_by_prefix"][block] = struct.pack("=I", BACKEND_IS | node.number)
    return table


def _interval(prefix: IPv4Network | IPv6Network) -> bytes:
    """The first address and the one after the last."""
    first = prefix.network_address.packed
    return first + (int(prefix.broadcast_address) + 1).to_bytes(len(first), "big")


def local_tables(attachments: Mapping[str, Attachment]) -> Tables:
    """The containers of this node by interface name: which source they may use, what others may call."""
    return {family: _local_table(attachments, family) for family in FAMILIES}


def _local_table(attachments: Mapping[str, Attachment], family: Family) -> Table:
    own: Elements = {}
    hairpin: Elements = {}
    public: Elements = {}
    for interface, attachment in attachments.items():
        for every in addresses_of(attachment):
            if family_of(every) == family:
                address = packed(every)
                own[interface.encode().ljust(16, b"\0") + address] = None
                hairpin[address + address] = None
        home_address = attachment.address if family == IP else attachment.address6
        for protocol, port in attachment.published if home_address else ():
            public[packed(home_address) + service_bytes(protocol, port)] = None
    return {"own": own, "hairpin": hairpin, "pub_local": public}


def joined(*parts: Tables) -> Tables:
    """All sets of all parts."""
    return {
        family: {name: found for part in parts for name, found in part.get(family, {}).items()}
        for family in FAMILIES
    }


def difference(before: Elements, after: Elements) -> Difference:
    """What turns ``before`` into ``after``."""
    missing = object()
    return Difference(
        remove={key: old for key, old in before.items() if after.get(key, missing) != old},
        add={key: new for key, new in after.items() if before.get(key, missing) != new},
    )


def abandoned_udp(before: Iterable[PublishedPort], after: Iterable[PublishedPort]) -> tuple[str, ...]:
    """Addresses of both families that answered UDP on some port and no longer do: their clients must be sent
    elsewhere."""
    return tuple(sorted({address for _, address, _ in _udp(before) - _udp(after)}))


def answering_udp(ports: Iterable[PublishedPort]) -> frozenset[str]:
    """Addresses of both families that answer UDP on some port."""
    return frozenset(address for _, address, _ in _udp(ports))


def newly_dead(before: Iterable[NodeView], after: Iterable[NodeView]) -> tuple[int, ...]:
    """Numbers of the nodes that are dead now and were not known to be, and of those that were alive and are
    gone.  With nothing known ``before`` that is every dead node."""
    was = {node.number: node.alive for node in before}
    now = {node.number: node.alive for node in after}
    dead = {number for number, alive in now.items() if not alive and was.get(number, True)}
    gone = {number for number, alive in was.items() if alive and number not in now}
    return tuple(sorted(dead | gone))


def _udp(ports: Iterable[PublishedPort]) -> set[tuple[int, str, int]]:
    return {
        (port.port, address, backend.port)
        for port in ports
        if port.protocol == "udp"
        for backend in port.backends
        for address in (backend.address, backend.address6)
        if address
    }


def service_bytes(protocol: Transport, port: int) -> bytes:
    """Protocol and port in a key."""
    return bytes([_NUMBERS[protocol], 0, 0, 0]) + port_bytes(port)


def port_bytes(port: int) -> bytes:
    """A port in a key or value."""
    return struct.pack("!HH", port, 0)
