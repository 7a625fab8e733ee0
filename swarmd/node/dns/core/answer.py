"""Decide what a container is answered: from its own networks, in order of attachment, or from outside.

its own names → a name in one of its networks → NAME.NETWORK → an address of its networks, backwards
→ somebody outside (None)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address, ip_address

from swarmd.node.dns.core import wire
from swarmd.node.dns.core.wire import Query
from swarmd.node.dns.core.zone import TASK_TTL, Names, Records, Zone

_ANSWERED_CLASSES = (wire.IN, wire.ANY)
_TRANSFERS = (wire.IXFR, wire.AXFR)
_BACKWARDS = (b"\x07in-addr\x04arpa", b"\x03ip6\x04arpa")


class View:
    """What one container sees.

    ``whole``: all of its networks are known here; until then a name without dots may still turn out to be
    a neighbour's, and nobody outside is asked for it.  ``outside``: others may be asked for other names.
    """

    def __init__(self, own: Names, zones: Sequence[Zone], *, whole: bool, outside: bool) -> None:
        self.own = own
        self.zones = tuple(zones)
        self.whole = whole
        self.outside = outside

    def find(self, key: bytes) -> Records | None:
        """The records of a name (labels in lower case)."""
        found = self.own.find(key)
        if found is not None:
            return found
        for zone in self.zones:
            found = zone.find(key)
            if found is not None:
                return found
        for zone in self.zones:
            if zone.suffix and key.endswith(zone.suffix) and len(key) > len(zone.suffix):
                rest = key[: -len(zone.suffix)]
                found = zone.find(rest)
                if found is not None:
                    return found
        return self._backwards(key) if key.endswith(_BACKWARDS) else None

    def _backwards(self, key: bytes) -> Records | None:
        address = address_of(key)
        if not address:
            return None
        for zone in self.zones:
            found = zone.backwards(address)
            if found is not None:
                return found
        return None


def view(
    networks: Sequence[tuple[str, tuple[str, ...]]],
    names: Sequence[str],
    zones: Mapping[str, Zone],
    *,
    own_servers: bool = False,
) -> View:
    """What a container sees that has these addresses by network id, in order of attachment, and these names.

    With no network that leads out only name servers of its own (``own_servers``) are asked for other names.
    """
    own = Names()
    addresses = [address for _, each in networks for address in each]
    if addresses:
        for name in names:
            own.add(name, TASK_TTL, addresses)
    mine = [zones[network] for network, _ in networks if network in zones]
    whole = len(mine) == len(networks)
    return View(
        own,
        mine,
        whole=whole,
        outside=own_servers or not whole or any(not zone.internal for zone in mine),
    )


def decide(query: Query, seen: View, turn: int, *, by_udp: bool) -> bytes | None:
    """The answer; None when somebody outside is to be asked.  ``turn`` says which address comes first."""
    if query.problem:
        return wire.reply(query, query.problem)
    if query.klass not in _ANSWERED_CLASSES or query.type in _TRANSFERS:
        return wire.reply(query, wire.REFUSED)
    found = seen.find(query.name.lower())
    if found is not None:
        records = found.get(query.type, ()) if query.type != wire.ANY else _all(found)
        if len(records) > 1:
            first = turn % len(records)
            records = records[first:] + records[:first]
        return wire.reply(query, wire.NOERROR if found else wire.NXDOMAIN, records, by_udp=by_udp)
    if not seen.whole and query.name and len(query.name) == query.name[0] + 1:
        return wire.reply(query, wire.SERVFAIL)
    return None if seen.outside else wire.reply(query, wire.NXDOMAIN)


def failed(query: Query) -> bytes:
    """The answer when nobody outside gave one."""
    return wire.reply(query, wire.SERVFAIL)


def _all(found: Records) -> tuple[bytes, ...]:
    return tuple(record for records in found.values() for record in records)


def address_of(key: bytes) -> str:
    """The address of a name below in-addr.arpa or ip6.arpa; empty when it is none, or only part of one."""
    parts = wire.words(key).split(".")[:-2][::-1]
    try:
        if key.endswith(_BACKWARDS[0]):
            return str(ip_address(".".join(parts))) if len(parts) == 4 else ""
        return str(IPv6Address(int("".join(parts), 16))) if len(parts) == 32 else ""
    except ValueError:
        return ""
