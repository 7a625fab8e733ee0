"""What the managers tell of the mesh, one thing after the other: wholes and differences put together."""

from __future__ import annotations

from functools import reduce

from msgspec.structs import replace

from swarmd.node.network.port import NetworkState

PARTS = {
    "nodes": ("nodes",),
    "networks": ("networks", "services", "endpoints"),
    "routes": ("routes", "certificates"),
}
"""What ``kept`` of a difference may name, and the fields of the state it means."""

NOTHING = NetworkState(version=0, nodes=(), ports=())


def then(first: NetworkState, *later: NetworkState) -> NetworkState:
    """All of them as one: a whole if one of them is, else the difference to what ``first`` is one to."""
    if not later:
        return first
    news = reduce(_then, later)
    return _then(first, news)


def _then(first: NetworkState, later: NetworkState) -> NetworkState:
    if not later.since:
        return later
    fields = {field: getattr(first, field) for part in later.kept for field in PARTS.get(part, ())}
    return replace(
        later,
        since=first.since,
        changed=first.changed | later.changed if first.since else frozenset(),
        kept=first.kept & later.kept,
        ports=(*(port for port in first.ports if port.service_id not in later.changed), *later.ports),
        **fields,
    )
