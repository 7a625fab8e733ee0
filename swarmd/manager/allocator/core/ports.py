"""Decide which published ports a service gets.

Every ingress port taken is a row whose id is the port: two services cannot both have it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from swarmd.model.claims import exclude, is_of_a_route, number_of
from swarmd.model.objects import PortAllocation, Service
from swarmd.model.replace import replace
from swarmd.model.spec import PortSpec
from swarmd.store.core.transaction import Change, Delete, Put

DYNAMIC = range(30000, 32768)
"""Where ports that a user left open are taken from (Swarm's numbers)."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """``ports``: the service's, all with a number; None: not all can be had, and ``error`` says why."""

    ports: tuple[PortSpec, ...] | None = None
    error: str = ""
    changes: tuple[Change, ...] = ()


def grant_ports(service: Service, taken: Mapping[str, PortAllocation], shared: Collection[str] = ()) -> Grant:
    """Resolve the ports of ``service``; ``taken``: every allocation there is, by id.

    ``shared``: ports that it has routes on, as ``tcp/80``: none of those is chosen for it.
    A dynamic port keeps the number it has.  Allocations that the spec does not name any more are freed.
    """
    ports: list[PortSpec] = []
    rows: dict[str, PortAllocation] = {}
    used = {*shared, *(number_of(port) for port in service.spec.ports if not port.dynamic)}
    for wanted in service.spec.ports:
        port = wanted
        if wanted.mode == "ingress":
            if wanted.dynamic:
                port = _dynamic(service, wanted, taken, used)
            holder = taken.get(port.key) or _clashing(service, port, taken)
            if not port.published:
                first, last = _numbers(wanted)[0], _numbers(wanted)[-1]
                return Grant(error=f"no {port.protocol} port is free between {first} and {last}")
            if holder is not None and holder.service_id != service.id:
                return Grant(error=_in_use(port, holder))
            rows[port.key] = _row(service, port, holder)
            used.add(number_of(port))
        ports.append(port)
    return Grant(ports=tuple(ports), changes=_changes(service, tuple(ports), rows, taken))


def _dynamic(
    service: Service, wanted: PortSpec, taken: Mapping[str, PortAllocation], used: Collection[str]
) -> PortSpec:
    """The number it has already, else the lowest free one; published is 0 when there is none."""
    numbers = _numbers(wanted)
    others = {row.id.partition("@")[0] for row in taken.values() if row.service_id != service.id}
    held = [had.published for had in service.ports if _same(had, wanted) and had.published in numbers]
    for number in (*held, *numbers):
        port = replace(wanted, published=number, published_end=0)
        if number_of(port) not in used and number_of(port) not in others:
            return port
    return replace(wanted, published=0, published_end=0)


def _numbers(wanted: PortSpec) -> range:
    """Those it may have."""
    return range(wanted.published, wanted.published_end + 1) if wanted.published_end else DYNAMIC


def _same(had: PortSpec, wanted: PortSpec) -> bool:
    """Whether one is the other with a number."""
    return replace(had, published=wanted.published, published_end=wanted.published_end) == wanted


def _clashing(service: Service, port: PortSpec, taken: Mapping[str, PortAllocation]) -> PortAllocation | None:
    """Another service's row of the same port, for an address that some node would have to open for both."""
    row = _row(service, port, None)
    return next((one for one in taken.values() if not is_of_a_route(one) and exclude(row, one)), None)


def _row(service: Service, port: PortSpec, holder: PortAllocation | None) -> PortAllocation:
    if holder is not None:
        return replace(holder, mode=port.mode, service_name=service.spec.name)
    return PortAllocation(id=port.key, service_id=service.id, service_name=service.spec.name, mode=port.mode)


def _changes(
    service: Service,
    ports: tuple[PortSpec, ...],
    rows: Mapping[str, PortAllocation],
    taken: Mapping[str, PortAllocation],
) -> tuple[Change, ...]:
    changes: list[Change] = [Put(row) for row in rows.values() if taken.get(row.id) != row]
    changes.extend(
        Delete(PortAllocation, row.id, row.version)
        for row in taken.values()
        if row.service_id == service.id and row.mode == "ingress" and row.id not in rows
    )
    if service.ports != ports:
        changes.append(Put(replace(service, ports=ports)))
    return tuple(changes)


def _in_use(port: PortSpec, holder: PortAllocation) -> str:
    how = "as an ingress port" if holder.mode == "ingress" else "as a host-published port"
    return (
        f"port '{port.published}' is already in use by service '{holder.service_name}' "
        f"({holder.service_id}) {how}"
    )
