"""Decide whether a network can be had, and which prefixes it gets.  A refusal names field and way out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from swarmd.control.core import validate
from swarmd.model import subnets
from swarmd.model.errors import Invalid, Refused
from swarmd.model.network import MTU, PREDEFINED, NetworkSpec, SubnetSpec
from swarmd.model.objects import Network
from swarmd.model.replace import replace
from swarmd.model.spec import ClusterSpec

_MTUS = range(576, 65536)
_MTUS6 = range(1280, 65536)
"""What IPv4 and IPv6 need at least."""

ENCRYPTED = "encrypted"
_SIZES = range(8, 31)


def checked(spec: NetworkSpec) -> NetworkSpec:
    """The spec with its driver and what its options mean.  Raises Invalid with the first thing wrong."""
    validate.name(spec.name, what="network")
    if spec.name in PREDEFINED:
        raise Invalid(f"operation is not permitted on predefined {spec.name} network")
    if spec.driver not in ("", "overlay"):
        raise Invalid(
            f'network driver "{spec.driver}" is not supported: networks of the swarm are overlay networks; '
            "every node has bridge, host and none of its own"
        )
    if ENCRYPTED in spec.options:
        rest = {key: value for key, value in spec.options.items() if key != ENCRYPTED}
        wanted = spec.options[ENCRYPTED].lower() not in ("false", "0")
        spec = replace(spec, encrypted=wanted, options=rest)
    _options(spec)
    for subnet in spec.subnets:
        _subnet(subnet, ipv6=spec.ipv6)
    for place, one in enumerate(spec.subnets):
        other = subnets.overlapping(one.subnet, (before.subnet for before in spec.subnets[:place]))
        if other:
            raise Invalid(f"subnet {one.subnet} overlaps {other}, of the same network")
    return replace(spec, driver="overlay")


def prefixes(
    spec: NetworkSpec, taken: Mapping[str, str], nodes: Mapping[str, str], cluster: ClusterSpec
) -> tuple[SubnetSpec, ...]:
    """Those of a new network: what the spec says, and one of each family that it lacks from the pools.

    ``taken``: prefix → name of the network that has it.  ``nodes``: address → host name.
    """
    for one in spec.subnets:
        _free(one.subnet, taken, nodes)
    found = list(spec.subnets)
    versions = {subnets.prefix(one.subnet).version for one in spec.subnets}
    if 4 not in versions:
        pools, size = cluster.address_pools or subnets.POOLS, cluster.subnet_size or subnets.SIZE
        found.insert(0, _cut(pools, size, taken, nodes))
    if spec.ipv6 and 6 not in versions:
        found.append(_cut((subnets.POOL6,), subnets.SIZE6, taken, nodes))
    return tuple(found)


def pools(spec: ClusterSpec) -> None:
    """``default-addr-pool`` and its mask length.  Raises Invalid."""
    size = spec.subnet_size or subnets.SIZE
    if size not in _SIZES:
        raise Invalid(
            f"default-addr-pool-mask-length must be between {_SIZES[0]} and {_SIZES[-1]}, not {size}"
        )
    for place, pool in enumerate(spec.address_pools):
        if _prefix("default-addr-pool", pool).version != 4:
            raise Invalid(f"default-addr-pool {pool}: only IPv4 is taken from pools; IPv6 needs none")
        if subnets.prefix(pool).prefixlen > size:
            raise Invalid(f"default-addr-pool {pool} is smaller than a network of it, which has /{size}")
        within = [
            one for one in subnets.RESERVED if subnets.prefix(one).prefixlen <= subnets.prefix(pool).prefixlen
        ]
        _not_reserved(
            f"default-addr-pool {pool}", pool, within
        )  # what is reserved of a larger one is left out
        other = subnets.overlapping(pool, spec.address_pools[:place])
        if other:
            raise Invalid(f"default-addr-pool {pool} overlaps {other}")


def removable(
    network: Network,
    services: Iterable[str],
    tasks: Iterable[str],
    containers: Iterable[tuple[str, str]] = (),
) -> None:
    """Raises Refused naming who uses it.  ``services``, ``tasks``: names; ``containers``: (name, id)."""
    if network.ingress:
        raise Refused("the ingress network cannot be removed: published ports go through it")
    for kind, names in (("service", sorted(services)), ("task", sorted(tasks))):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise Refused(f"network {network.name} is in use by {kind} {', '.join(names[:5])}{more}")
    if attached := [f'name:"{name}" id:"{row_id[:12]}"' for name, row_id in containers]:
        more = f", and {len(attached) - 5} more" if len(attached) > 5 else ""
        raise Refused(
            f"error while removing network: network {network.name} has active endpoints "
            f"({', '.join(attached[:5])}{more})"
        )


def _options(spec: NetworkSpec) -> None:
    for key, value in spec.options.items():
        if key != MTU:
            raise Invalid(f'network option "{key}" is not known: there are {MTU} and {ENCRYPTED}')
        allowed = _MTUS6 if spec.ipv6 else _MTUS
        if not value.isascii() or not value.isdecimal() or int(value) not in allowed:
            raise Invalid(f'{MTU} must be between {allowed[0]} and {allowed[-1]}, not "{value}"')


def _subnet(one: SubnetSpec, *, ipv6: bool) -> None:
    if not one.subnet:
        raise Invalid("every gateway, ip-range or aux-address needs a subnet: add --subnet")
    whole = _prefix("subnet", one.subnet)
    if whole.version == 6 and not ipv6:
        raise Invalid(f"subnet {one.subnet} is an IPv6 one: add --ipv6")
    _not_reserved(f"subnet {one.subnet}", one.subnet)
    for what, address in (("gateway", one.gateway), *(("aux-address", a) for a in one.reserved.values())):
        if address and not _inside(what, address, whole):
            raise Invalid(f"no matching subnet for {what} {address}: it is not in {one.subnet}")
    if one.ip_range:
        part = _prefix("ip-range", one.ip_range)
        if part.version != whole.version or not _covers(whole, part):
            raise Invalid(f"no matching subnet for range {one.ip_range}: it is not in {one.subnet}")
    if subnets.span(one).size < 1:
        raise Invalid(f"subnet {one.subnet} leaves no address for tasks: take a larger one")


def _inside(what: str, address: str, whole: subnets.Prefix) -> bool:
    try:
        return ipaddress.ip_address(address) in whole
    except ValueError as error:
        raise Invalid(f'{what} "{address}" is not an IP address') from error


def _covers(whole: subnets.Prefix, part: subnets.Prefix) -> bool:
    return part.network_address in whole and part.broadcast_address in whole


def _prefix(what: str, text: str) -> subnets.Prefix:
    try:
        return subnets.prefix(text) if "/" in text else _without_length(what, text)
    except ValueError as error:
        raise Invalid(f"invalid {what} {text}: {_reason(text)}") from error


def _without_length(what: str, text: str) -> subnets.Prefix:
    raise Invalid(f'invalid {what} "{text}": write it with its length, as 10.0.5.0/24')


def _reason(text: str) -> str:
    try:
        return f"it should be {ipaddress.ip_network(text, strict=False)}"
    except ValueError:
        return "it is no prefix, as 10.0.5.0/24"


def _not_reserved(what: str, text: str, reserved: Iterable[str] = subnets.RESERVED) -> None:
    other = subnets.overlapping(text, reserved)
    if other:
        raise Invalid(f"{what} overlaps {other}: that is for {subnets.RESERVED[other]}")


def _free(subnet: str, taken: Mapping[str, str], nodes: Mapping[str, str]) -> None:
    other = subnets.overlapping(subnet, taken)
    if other:
        raise Invalid(
            f"Pool overlaps with other one on this address space: {subnet} and {other}, of {taken[other]}"
        )
    address = subnets.overlapping(subnet, nodes)
    if address:
        raise Invalid(f"subnet {subnet} holds {address}, the address of node {nodes[address]}")


def _cut(pools: Sequence[str], size: int, taken: Mapping[str, str], nodes: Mapping[str, str]) -> SubnetSpec:
    piece = subnets.free_piece(pools, size, (*taken, *nodes, *subnets.RESERVED))
    if not piece:
        raise Refused(
            f"the address pool {', '.join(pools)} has no free /{size} for another network: "
            "give it a --subnet, or remove networks that nobody needs"
        )
    return SubnetSpec(subnet=piece)
