"""The claims of routes on the ports they share: rows that exclude whoever wants such a port alone.

A route has a row of its own (``tcp/80/HOST/PATH``), so nobody else can create it.  All routes of a port have
one in common (``tcp/80``), which is the row a service takes that wants the port for itself.  Whoever adds or
gives up a route writes the common row again: of two who do so at once the second is out of sequence and
begins anew.  Thus the last to go removes it, and only the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from swarmd.model.objects import PortAllocation
from swarmd.model.ports import clash, key_of_row
from swarmd.model.replace import replace
from swarmd.model.spec import PortSpec

HTTP, HTTPS = "http", "https"
SHARED = (HTTP, HTTPS)
"""Modes of the rows of routes: without TLS, and with it.  A port has routes of one kind only."""

Taken = Mapping[str, PortAllocation]
"""Every allocation there is, by id."""


class Claims(msgspec.Struct, frozen=True):
    """Rows to write (at the version they were read, 0 = new) and rows to remove."""

    put: tuple[PortAllocation, ...] = ()
    drop: tuple[PortAllocation, ...] = ()


def is_common(row: PortAllocation) -> bool:
    """Whether it is the row that all routes of a port have in common."""
    return row.mode in SHARED and row.id.count("/") == 1


def is_of_a_route(row: PortAllocation) -> bool:
    """Whether it is the row of one route."""
    return row.mode in SHARED and row.id.count("/") > 1


def exclude(one: PortAllocation, other: PortAllocation) -> bool:
    """Whether two services cannot both have these rows, no routes': a node cannot open both ports.

    In host mode the tasks go to different nodes.
    """
    if one.service_id == other.service_id or one.mode == other.mode == "host":
        return False
    return clash(key_of_row(one.id, one.mode), key_of_row(other.id, other.mode))


def port_of(row: PortAllocation) -> str:
    """``tcp/80`` of the row of a route."""
    return "/".join(row.id.split("/", 2)[:2])


def number_of(port: PortSpec) -> str:
    """``tcp/80``, on whichever address."""
    return f"{port.protocol}/{port.published}"


def mode_of(port: PortSpec) -> str:
    """The mode of a route's rows."""
    return HTTPS if port.tls else HTTP


def claims(service_id: str, service_name: str, ports: Iterable[PortSpec], taken: Taken) -> Claims:
    """What makes the routes of ``service_id`` those among ``ports``, all others' left as they are."""
    wanted = {port.route: port for port in ports if port.is_route and port.published}
    mine = {row.id: row for row in taken.values() if is_of_a_route(row) and row.service_id == service_id}
    gone = [row for key, row in mine.items() if key not in wanted]
    fresh: list[PortAllocation] = []
    for key, port in wanted.items():
        row = mine.get(key) or PortAllocation(id=key, service_id=service_id, service_name=service_name)
        if row.version == 0 or row.mode != mode_of(port):
            fresh.append(replace(row, mode=mode_of(port)))
    modes = {port.key: mode_of(port) for port in wanted.values()}
    put, drop = list(fresh), list(gone)
    for number in sorted({port_of(row) for row in (*fresh, *gone)} | (modes.keys() - taken.keys())):
        common = taken.get(number)
        left = [row for row in routes_of(number, taken) if row.id not in {one.id for one in gone}]
        if number in modes or left:
            mode = modes.get(number) or left[0].mode
            known = common if common is not None and common.mode in SHARED else None
            row = known or PortAllocation(id=number, service_id="", service_name="")
            put.append(replace(row, mode=mode))
        elif common is not None and common.mode in SHARED:
            drop.append(common)
    return Claims(tuple(put), tuple(drop))


def routes_of(number: str, taken: Taken) -> list[PortAllocation]:
    """The rows of all routes of a port (``tcp/80``)."""
    return [row for row in taken.values() if is_of_a_route(row) and port_of(row) == number]


def abandoned(taken: Taken) -> tuple[PortAllocation, ...]:
    """Common rows that no route has any more."""
    used = {port_of(row) for row in taken.values() if is_of_a_route(row)}
    return tuple(row for row in taken.values() if is_common(row) and row.id not in used)


def together(*parts: Claims) -> Claims:
    """Several claims as one: what one of them removes and another writes anew is replaced in its place."""
    dropped = {row.id: row for part in parts for row in part.drop}
    put = [
        replace(row, version=dropped[row.id].version) if row.id in dropped and not row.version else row
        for part in parts
        for row in part.put
    ]
    written = {row.id for row in put}
    return Claims(tuple(put), tuple(row for key, row in dropped.items() if key not in written))


def refusal(port: PortSpec, taken: Taken, *, own: str) -> str:
    """Why service ``own`` cannot have the route ``port``; "" when it can."""
    alone = next(
        (
            row
            for row in taken.values()
            if row.mode == "ingress" and row.service_id != own and row.id.partition("@")[0] == port.key
        ),
        None,
    )
    if alone is not None:
        return (
            f"port '{port.published}' is already in use by service '{alone.service_name}' "
            f"({alone.service_id}) as an ingress port of its own: "
            "it shares the port when it names a host or a path, too"
        )
    holder = taken.get(port.route)
    if holder is not None and holder.service_id != own:
        return (
            f"{described(port)} on port '{port.published}' leads to service '{holder.service_name}' "
            f"({holder.service_id}) already: use another host or path"
        )
    others = [row for row in routes_of(port.key, taken) if row.service_id != own]
    if others and others[0].mode != mode_of(port):
        how, way = ("without TLS", "leave tls= out") if port.tls else ("with TLS", "name a secret with tls=")
        return (
            f"port '{port.published}' is served {how} for service '{others[0].service_name}' "
            f"({others[0].service_id}): {way}, or use another port"
        )
    return ""


def alone_refusal(port: PortSpec, taken: Taken, *, own: str) -> str:
    """Why service ``own`` cannot have ``port`` for itself, as far as that is for others' routes."""
    number = number_of(port)
    others = [row for row in routes_of(number, taken) if row.service_id != own] if number in taken else []
    if not others:
        return ""
    return (
        f"port '{port.published}' is already in use by service '{others[0].service_name}' "
        f"({others[0].service_id}) as a shared port: name a host or a path (host=…, path=…), "
        "or use another port"
    )


def described(port: PortSpec) -> str:
    """``app.example.com/api``, for people."""
    return f"{port.host.lower() or 'any host'}{'/' + port.path.strip('/')}"


def alone(taken: Iterable[PortAllocation], *, own: str) -> list[PortAllocation]:
    """The rows that concern who wants ports for himself: without routes, and without the common rows of ports
    that only ``own`` has routes on."""
    rows = list(taken)
    others = {port_of(row) for row in rows if is_of_a_route(row) and row.service_id != own}
    return [row for row in rows if row.mode not in SHARED or row.id in others]
