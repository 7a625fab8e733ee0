"""Decide which published ports a service gets, and refuse those that another has."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from swarmd.control.core import routes
from swarmd.model import claims
from swarmd.model.claims import Claims
from swarmd.model.errors import Invalid
from swarmd.model.objects import PortAllocation, Service
from swarmd.model.ports import clash, key_of_row
from swarmd.model.replace import replace
from swarmd.model.spec import PortSpec

_HOLDS = {"ingress": "an ingress port", "host": "a host-published port"}


def check(wanted: Iterable[PortSpec], taken: Collection[PortAllocation], *, own: str = "") -> None:
    """Raises Invalid naming the service that holds a port.  Host-mode ports may be shared by services."""
    wanted = routes.check(wanted, taken, own=own)
    by_number: dict[str, list[PortAllocation]] = {}
    for row in claims.alone(taken, own=own):
        if row.service_id != own:
            by_number.setdefault(row.id.partition("@")[0], []).append(row)
    for port in wanted:
        for row in () if port.dynamic else by_number.get(f"{port.protocol}/{port.published}", ()):
            shared = port.mode == row.mode == "host"
            if not shared and clash(port.key, key_of_row(row.id, row.mode)):
                raise Invalid(
                    f"port '{port.published}' is already in use by service '{row.service_name}' "
                    f"({row.service_id}) as {_HOLDS[row.mode]}"
                )


def row_id(port: PortSpec, service_id: str) -> str:
    """The id of the allocation row: one for the whole swarm, or one per service for a host-mode port."""
    return port.key if port.mode == "ingress" else f"{port.key}@{service_id}"


def claimed(service: Service, taken: Collection[PortAllocation]) -> Claims:
    """The rows to write and to remove so that ``service`` has its ports, those of ``taken`` that it has."""
    alone = [port for port in service.ports if port.published and not port.is_route]
    wanted = {row_id(port, service.id): port for port in alone}
    held = {row.id: row for row in taken if row.service_id == service.id and row.mode not in claims.SHARED}
    own = Claims(
        put=tuple(
            PortAllocation(id=key, service_id=service.id, service_name=service.spec.name, mode=port.mode)
            for key, port in wanted.items()
            if key not in held
        ),
        drop=tuple(row for key, row in held.items() if key not in wanted),
    )
    routed = claims.claims(service.id, service.spec.name, service.ports, {row.id: row for row in taken})
    return claims.together(own, routed)


def resolved(wanted: tuple[PortSpec, ...], held: tuple[PortSpec, ...]) -> tuple[PortSpec, ...]:
    """The ports with numbers: an unspecified one keeps the number it had, or stays 0 for the allocator."""
    free = [port for port in held if not port.is_route and not any(_same(port, one) for one in wanted)]
    result: list[PortSpec] = []
    for port in wanted:
        match = next((one for one in free if _continues(one, port)), None) if port.dynamic else None
        if match is not None:
            free.remove(match)
            result.append(replace(port, published=match.published, published_end=0))
        elif port.dynamic:
            result.append(replace(port, published=0, published_end=0))
        else:
            result.append(port)
    return tuple(result)


def _same(held: PortSpec, wanted: PortSpec) -> bool:
    return not wanted.dynamic and held.key == wanted.key


def _continues(held: PortSpec, wanted: PortSpec) -> bool:
    """Whether a dynamic port is the one that was held: by the container's side, and within its range."""
    within = not wanted.published or wanted.published <= held.published <= wanted.published_end
    return within and all(
        getattr(held, name) == getattr(wanted, name) for name in ("protocol", "target", "mode", "host_ip")
    )
