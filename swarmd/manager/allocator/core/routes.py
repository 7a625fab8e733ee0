"""Decide which routes a service gets, beside the ports that it has for itself.

Routes that host name and path tell apart share a port: see ``model.claims`` for the rows that see to it.
"""

from __future__ import annotations

from swarmd.manager.allocator.core.ports import Grant, grant_ports
from swarmd.manager.plan import Step
from swarmd.model import claims
from swarmd.model.claims import Claims, Taken
from swarmd.model.objects import PortAllocation, Service
from swarmd.model.replace import replace
from swarmd.model.spec import PortSpec
from swarmd.store.core.transaction import Change, Delete, Put


def grant(service: Service, taken: Taken) -> Grant:
    """Resolve all ports of ``service``: :func:`grant_ports` for those it has alone, and its routes."""
    for port in service.spec.ports:
        refuse = claims.refusal if port.is_route else claims.alone_refusal
        fixed = port.mode == "ingress" and not port.dynamic
        reason = refuse(port, taken, own=service.id) if fixed else ""
        if reason:
            return Grant(error=reason)
    if not any(port.is_route for port in (*service.spec.ports, *service.ports)):
        return grant_ports(service, taken)
    own = _alone(service)
    rows = claims.alone(taken.values(), own=service.id)
    shared = [claims.number_of(port) for port in service.spec.ports if port.is_route]
    granted = grant_ports(own, {row.id: row for row in rows}, shared)
    if granted.ports is None:
        return granted
    resolved = iter(granted.ports)
    ports = tuple(port if port.is_route else next(resolved) for port in service.spec.ports)
    wanted = claims.together(
        _claims(granted.changes), claims.claims(service.id, service.spec.name, ports, taken)
    )
    changes = _changes(wanted)
    if service.ports != ports:
        changes.append(Put(replace(service, ports=ports)))
    return Grant(ports=ports, changes=tuple(changes))


def freed(service_id: str, taken: Taken) -> list[Step]:
    """Nothing is left of a service that is gone.  For "" it is the rows that routes had in common."""
    if not service_id:
        return [(Delete(PortAllocation, row.id, row.version),) for row in claims.abandoned(taken)]
    rows = claims.alone(taken.values(), own=service_id)
    alone = Claims(drop=tuple(row for row in rows if row.service_id == service_id))
    changes = _changes(claims.together(alone, claims.claims(service_id, "", (), taken)))
    return [tuple(changes)] if changes else []


def _alone(service: Service) -> Service:
    def without(ports: tuple[PortSpec, ...]) -> tuple[PortSpec, ...]:
        return tuple(port for port in ports if not port.is_route)

    return replace(
        service, spec=replace(service.spec, ports=without(service.spec.ports)), ports=without(service.ports)
    )


def _claims(changes: tuple[Change, ...]) -> Claims:
    put = [change.row for change in changes if isinstance(change, Put)]
    return Claims(
        put=tuple(row for row in put if isinstance(row, PortAllocation)),
        drop=tuple(
            PortAllocation(id=one.id, version=one.version, service_id="", service_name="")
            for one in changes
            if isinstance(one, Delete)
        ),
    )


def _changes(wanted: Claims) -> list[Change]:
    return [
        *(Put(row) for row in wanted.put),
        *(Delete(PortAllocation, row.id, row.version) for row in wanted.drop),
    ]
