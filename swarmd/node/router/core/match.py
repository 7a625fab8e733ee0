"""Decide which route answers a request: by host name, then by the longest path prefix.

A name of its own goes before ``*.example.com``, which goes before any host; the longer wildcard goes first.
Where the routes of a host have no prefix of the path, those of the next wider one are asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

import msgspec

from swarmd.node.network.port import HttpRoute

ANY = ""


class Table(msgspec.Struct, frozen=True):
    """The routes of one port: by host name, by the name below which all are meant, longest path first."""

    exact: dict[str, tuple[HttpRoute, ...]] = {}
    below: dict[str, tuple[HttpRoute, ...]] = {}
    any: tuple[HttpRoute, ...] = ()

    def find(self, host: str, path: str) -> HttpRoute | None:
        """``host`` as :func:`host_name` gives it, ``path`` as :func:`plain_path` does."""
        for routes in self._by_host(host):
            for route in routes:
                if covers(route.path, path):
                    return route
        return None

    def _by_host(self, host: str) -> Iterable[tuple[HttpRoute, ...]]:
        found = self.exact.get(host)
        if found:
            yield found
        _, _, parent = host.partition(".")
        while parent and self.below:
            found = self.below.get(parent)
            if found:
                yield found
            _, _, parent = parent.partition(".")
        yield self.any


def table(routes: Iterable[HttpRoute]) -> Table:
    """The routes of one port, ready to be asked."""
    exact: dict[str, list[HttpRoute]] = {}
    below: dict[str, list[HttpRoute]] = {}
    for route in sorted(routes, key=lambda route: (-len(route.path), route.path)):
        if route.host.startswith("*."):
            below.setdefault(route.host[2:].lower(), []).append(route)
        else:
            exact.setdefault(route.host.lower(), []).append(route)
    anywhere = tuple(exact.pop(ANY, ()))
    return Table(
        {host: tuple(found) for host, found in exact.items()},
        {host: tuple(found) for host, found in below.items()},
        anywhere,
    )


def certificate_for(name: str | None, routes: Iterable[HttpRoute]) -> str:
    """The id of the certificate for a server name (SNI); without a known one, the port's first."""
    named = sorted(
        (route for route in routes if route.tls), key=lambda route: (route.host != ANY, route.host)
    )
    if not named:
        return ""
    host = host_name(name or "")
    by_host: dict[str, str] = {}
    for route in named:
        by_host.setdefault(route.host.lower(), route.tls)
    if host in by_host:
        return by_host[host]
    _, _, parent = host.partition(".")
    while parent:
        if f"*.{parent}" in by_host:
            return by_host[f"*.{parent}"]
        _, _, parent = parent.partition(".")
    return named[0].tls


def host_name(authority: str) -> str:
    """``example.com`` of ``Example.com.:8080``."""
    if authority.startswith("["):
        return authority.partition("]")[0] + "]"
    return authority.partition(":")[0].rstrip(".").lower()


def covers(prefix: str, path: str) -> bool:
    """Whether ``path`` is ``prefix`` or below it, whole segments."""
    if prefix in ("", "/"):
        return True
    return path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/")


_ODD = re.compile(r"%|/\.|//")


def plain_path(target: str) -> str:
    """The path of a request as a server will understand it: decoded, without dot segments or empty ones.
    It is only compared; what goes to the task is what the client wrote."""
    path = target.partition("?")[0]
    if not _ODD.search(path):
        return path
    kept: list[str] = []
    for segment in unquote(path).split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    return "/" + "/".join(kept)
