"""Published ports: what the kernel's sets hold for each.

Keys and values are encoded as the kernel compares them, see :mod:`swarmd.node.mesh.core.table`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from ipaddress import collapse_addresses, ip_address, ip_network

from swarmd.node.mesh.core.buckets import SMALL, assign, size_for
from swarmd.node.mesh.core.table import Table, port_bytes, service_bytes
from swarmd.node.network.core.addresses import packed
from swarmd.node.network.core.family import IP, Family, family_of
from swarmd.node.network.port import Backend, PublishedPort, Transport

PortKey = tuple[Transport, int, str]
"""Protocol, number, and the only address it is open on; empty: all of them."""
Target = tuple[str, int]
"""(container address, port): one backend as the kernel sees it."""
Addresses = Mapping[str, tuple[str, ...]]
"""The addresses of each interface of the node."""

PROXIED = "proxy-protocol"
MASQUERADED = "masquerade"
_PER_PORT = ("ep", "ep_large", "published", "counted", "guarded", "allowed", "sticky")
SETS = (*_PER_PORT, *(f"{name}_at" for name in _PER_PORT), "masked")
"""The sets and maps that :func:`elements` and :func:`masked` speak of."""


def key_of(port: PublishedPort) -> PortKey:
    return port.protocol, port.port, port.host_ip


def name_of(key: PortKey) -> str:
    """As users are told: ``port 80/tcp``."""
    protocol, port, host = key
    return f"port {port}/{protocol}" + (f" on {host}" if host else "")


def home(backend: Backend, family: Family) -> str:
    """The backend's address of this family; empty if it has none."""
    return backend.address if family == IP else backend.address6


def targets(port: PublishedPort, family: Family) -> set[Target]:
    """The backends the kernel can reach by this family."""
    return {(address, b.port) for b in port.backends if (address := home(b, family))}


def in_kernel(port: PublishedPort, family: Family) -> bool:
    """Whether the kernel serves (or refuses) this port for clients of this family; else the proxy does."""
    if port.source == PROXIED:
        return False
    if port.host_ip and (family_of(port.host_ip) != family or ip_address(port.host_ip).is_loopback):
        return False
    return not port.backends or any(home(backend, family) for backend in port.backends)


def spread(members: set[Target], before: tuple[Target, ...]) -> tuple[Target, ...]:
    """The backend of each bucket, as near to ``before`` as fairness allows."""
    size = size_for(len(members))
    return assign(before if len(before) == size else (), members, size)


def head_of(port: PublishedPort) -> bytes:
    """What its keys begin with."""
    head = service_bytes(port.protocol, port.port)
    return packed(port.host_ip) + head if port.host_ip else head


def elements(port: PublishedPort, buckets: tuple[Target, ...], family: Family) -> Table:
    """What one port adds to the sets."""
    head, at = head_of(port), "_at" if port.host_ip else ""
    table: Table = {
        ("ep" if len(buckets) <= SMALL else "ep_large"): {
            head + struct.pack("=I", number): packed(address) + port_bytes(target)
            for number, (address, target) in enumerate(buckets)
        },
        "published": {head: None},
        "counted": {head: None},
    }
    if port.sticky:
        table["sticky"] = {head: None}
    if port.allow:
        table["guarded"] = {head: None}
        table["allowed"] = dict(_ranges(head, port.allow, family))
    return {name + at: found for name, found in table.items()}


def _ranges(head: bytes, allow: Iterable[str], family: Family) -> Iterable[tuple[bytes, None]]:
    """Overlapping prefixes are joined: the kernel refuses them."""
    prefixes = [ip_network(text, strict=False) for text in allow if family_of(text) == family]
    for prefix in collapse_addresses(prefixes):  # type: ignore[type-var]
        yield head + prefix.network_address.packed + head + prefix.broadcast_address.packed, None


def masked(port: PublishedPort, family: Family) -> frozenset[bytes]:
    """The containers that are not to see the addresses of this port's clients."""
    if port.source != MASQUERADED:
        return frozenset()
    found = targets(port, family)
    return frozenset(packed(address) + service_bytes(port.protocol, target) for address, target in found)
