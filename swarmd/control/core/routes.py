"""Decide whether the routes of a service can be accepted: names, paths, and who has them already."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from swarmd.model import claims
from swarmd.model.errors import Invalid
from swarmd.model.objects import PortAllocation
from swarmd.model.spec import PortSpec

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*", re.IGNORECASE)
_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+;=:@/]*")
_LONGEST_HOST, _LONGEST_PATH = 253, 1024


def validate(specs: Iterable[PortSpec]) -> None:
    """Raises Invalid with the first route that is wrong, alone or beside the other ports of its service."""
    ports = list(specs)
    alone = {claims.number_of(port) for port in ports if not (port.is_route or port.dynamic)}
    seen: dict[str, PortSpec] = {}
    modes: dict[str, str] = {}
    for port in ports:
        if not port.is_route:
            continue
        _route(port)
        if port.key in alone:
            raise Invalid(
                f"port {port.published}/{port.protocol} is published with and without a host or path"
            )
        if port.route in seen:
            raise Invalid(
                f"{claims.described(port)} on port {port.published} is published twice by this service"
            )
        if modes.setdefault(port.key, claims.mode_of(port)) != claims.mode_of(port):
            raise Invalid(f"port {port.published} is served with TLS or without, not both: see tls=")
        seen[port.route] = port


def check(wanted: Iterable[PortSpec], taken: Collection[PortAllocation], *, own: str) -> list[PortSpec]:
    """Raises Invalid naming the service that has a route already, or routes on a port that is wanted alone.
    Answers the ports that are no routes, for their own check."""
    rows = {row.id: row for row in taken}
    plain: list[PortSpec] = []
    for port in wanted:
        if not port.is_route:
            plain.append(port)
        refuse = claims.refusal if port.is_route else claims.alone_refusal
        reason = "" if port.dynamic else refuse(port, rows, own=own)
        if reason or not port.is_route:
            _raise(reason)
            continue
        for row in taken:
            if row.service_id != own and row.mode == "host" and row.id.partition("@")[0] == port.key:
                _raise(
                    f"port '{port.published}' is already in use by service '{row.service_name}' "
                    f"({row.service_id}) as a host-published port"
                )
    return plain


def _raise(reason: str) -> None:
    if reason:
        raise Invalid(reason)


def _route(port: PortSpec) -> None:
    what = f"the route {claims.described(port)}"
    if port.protocol != "tcp" or port.mode != "ingress":
        raise Invalid(
            f"{what} is HTTP, which is tcp in ingress mode, not {port.protocol} in mode {port.mode}"
        )
    if not port.published:
        raise Invalid(f"{what} needs a published port: write published=80, or 80:{port.target}")
    if port.published_end or port.host_ip or port.allow or port.sticky:
        raise Invalid(
            f"{what} cannot be published on a range of ports, one address, for some clients only or sticky: "
            "leave the range, host_ip, allow and sticky out"
        )
    if len(port.host) > _LONGEST_HOST or (port.host and not _HOST.fullmatch(port.host)):
        raise Invalid(
            f'host "{port.host}" is no host name: write app.example.com, or *.example.com for all below'
        )
    if port.host.replace(".", "").isdecimal():
        raise Invalid(f'host "{port.host}" is an address: write a name, or leave host= out for any')
    if len(port.path) > _LONGEST_PATH or (port.path and not _PATH.fullmatch(port.path)):
        raise Invalid(
            f'path "{port.path}" cannot be a prefix: it begins with / and has no query, no space, '
            "no % and no comma"
        )
    if {".", ".."} & set(port.path.split("/")) or "//" in port.path:
        raise Invalid(f'path "{port.path}" cannot be a prefix: it has an empty, a . or a .. segment')
