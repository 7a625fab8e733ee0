"""The languages of networks: ``--network`` of a service, and what ``network create`` is told.  Pure.

Every parser raises ValueError with a sentence.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from swarmd.cli.spec_text import fields_of

_FIELDS = ("name", "alias", "vip", "ip", "driver-opt")
_MODES = ("host", "none")
ENCRYPTED = ("encrypted", "com.docker.network.driver.encrypted")


class Attachment(NamedTuple):
    """Fields as in NetworkAttachment; ``target`` is the name that was written."""

    target: str
    aliases: tuple[str, ...] = ()
    vip: str = ""
    addresses: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()


class Subnet(NamedTuple):
    """Fields as in SubnetSpec."""

    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    reserved: tuple[tuple[str, str], ...] = ()


def parse_network(text: str) -> Attachment:
    """``web`` or ``name=web,alias=db,vip=10.0.5.2,ip=10.0.5.9,ip=10.0.5.10``: addresses by slot."""
    if not text.strip():
        raise ValueError("the name of the network is empty")
    if "=" not in text:
        return Attachment(text)
    given: dict[str, list[str]] = {}
    for name, value in fields_of(text):
        if name not in _FIELDS:
            raise ValueError(f"invalid field key {name}: known are {', '.join(_FIELDS)}")
        given.setdefault(name, []).append(value)
    for name in ("name", "vip"):
        if len(given.get(name, ())) > 1:
            raise ValueError(f"{name} is given twice")
    if not given.get("name", [""])[0]:
        raise ValueError('missing mandatory field "name"')
    return Attachment(
        given["name"][0],
        tuple(dict.fromkeys(given.get("alias", ()))),
        _address("vip", given["vip"][0]) if "vip" in given else "",
        tuple(_address("ip", one) for value in given.get("ip", ()) for one in value.split(";")),
        tuple(_pair("driver-opt", one) for one in given.get("driver-opt", ())),
    )


def parse_membership(text: str) -> Attachment:
    """``--network`` of a single container: ``web`` or ``name=web,alias=db,ip=10.0.5.9,ip6=fd00::9``."""
    parts = [f"ip={part[4:]}" if part.startswith("ip6=") else part for part in text.split(",")]
    found = parse_network(",".join(parts))
    if found.vip:
        raise ValueError("a single container has no vip: write ip=")
    if found.options:
        raise ValueError("there is no driver-opt for a single container")
    return found


def memberships(
    named: Sequence[Attachment], aliases: Sequence[str], addresses: Sequence[str]
) -> tuple[str, list[Attachment]]:
    """(``host``, ``none`` or empty, networks of the swarm) that a single container is to be in.

    What is said of no network in particular is of the first.
    """
    modes = [one.target for one in named if one.target in _MODES]
    joined = [one for one in named if one.target not in _MODES]
    if modes and len(named) > 1:
        raise ValueError(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
        )
    if joined:
        first = joined[0]
        joined[0] = first._replace(
            aliases=(*first.aliases, *aliases), addresses=(*first.addresses, *addresses)
        )
    elif addresses:
        raise ValueError("user specified IP address is supported on user defined networks only")
    elif aliases:
        raise ValueError("network-scoped alias is supported only for containers in user defined networks")
    return "".join(modes), joined


def parse_options(texts: Sequence[str]) -> tuple[dict[str, str], bool]:
    """``--opt``: the driver's options, and whether ``encrypted`` is among them."""
    options: dict[str, str] = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key:
            raise ValueError(f"invalid option '{text}': write key=value")
        options[key] = value
    encrypted = [key for key in ENCRYPTED if key in options]
    return {key: value for key, value in options.items() if key not in encrypted}, any(
        options[key].lower() not in ("false", "0") for key in encrypted
    )


def parse_subnets(
    subnets: Sequence[str], gateways: Sequence[str], ranges: Sequence[str], reserved: Sequence[str]
) -> list[Subnet]:
    """What ``--subnet``, ``--gateway``, ``--ip-range`` and ``--aux-address`` say, put together by prefix.

    Without a subnet a range or gateway has nothing it could belong to.
    """
    prefixes = [_prefix("subnet", text) for text in subnets]
    for number, one in enumerate(prefixes):
        if any(one.version == other.version and one.overlaps(other) for other in prefixes[:number]):
            raise ValueError("multiple overlapping subnet configuration is not supported")
    found = {str(one): Subnet(str(one)) for one in prefixes}
    for text in ranges:
        inside = _prefix("ip-range", text)
        key = _home(prefixes, inside[0], inside[-1], f"no matching subnet for range {text}")
        if found[key].ip_range:
            raise ValueError(f"cannot configure multiple ranges ({text}, {found[key].ip_range}) on {key}")
        found[key] = found[key]._replace(ip_range=str(inside))
    for text in gateways:
        address = ipaddress.ip_address(_address("gateway", text))
        key = _home(prefixes, address, address, f"no matching subnet for gateway {text}")
        if found[key].gateway:
            raise ValueError(f"cannot configure multiple gateways ({text}, {found[key].gateway}) on {key}")
        found[key] = found[key]._replace(gateway=str(address))
    for name, value in (_pair("aux-address", text) for text in reserved):
        address = ipaddress.ip_address(_address("aux-address", value))
        key = _home(prefixes, address, address, f"no matching subnet for aux-address {value}")
        found[key] = found[key]._replace(reserved=(*found[key].reserved, (name, str(address))))
    return list(found.values())


Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _home(prefixes: Sequence[Prefix], first: Address, last: Address, complaint: str) -> str:
    for prefix in prefixes:
        if prefix.version == first.version and first in prefix and last in prefix:
            return str(prefix)
    raise ValueError(complaint)


def _prefix(field: str, text: str) -> Prefix:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"invalid {field} '{text}': write a prefix such as 10.0.5.0/24") from None


def _address(field: str, text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise ValueError(f"invalid {field} '{text}': write an address such as 10.0.5.9") from None


def _pair(field: str, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"invalid {field} '{text}': write name=value")
    return key, value
