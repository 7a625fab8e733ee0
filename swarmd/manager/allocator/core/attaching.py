"""Decide what a single container gets in networks of the swarm, and what is let go of.

A container's row says which networks it is in, and its addresses are rows like those of tasks: whatever
happens at once, nobody else has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

import msgspec

from swarmd.manager.allocator.core.addresses import Owner, Turn
from swarmd.model import subnets
from swarmd.model.containers import SingleContainer
from swarmd.model.errors import Invalid, NotFound, Refused
from swarmd.model.network import ContainerNetwork, NetworkAttachment, is_alias
from swarmd.model.objects import AddressAllocation, Network
from swarmd.model.replace import replace
from swarmd.store.core.transaction import Change, Delete, Put

KIND = "container"
"""What its addresses say of their owner."""

_ID = re.compile(r"[0-9a-z]{1,64}")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")
_MOST_ALIASES = 100

Find = Callable[[str], Network]
"""A network by id, name or beginning of an id; raises NotFound."""


class Attached(msgspec.Struct, frozen=True):
    """``row`` as it is after ``changes``; None: not in this turn, but the changes are to be made."""

    row: SingleContainer | None
    changes: tuple[Change, ...]


def attach(
    row: SingleContainer,
    wanted: Iterable[NetworkAttachment],
    held: Collection[AddressAllocation],
    find: Find,
    turn: Turn,
) -> Attached:
    """The container in these networks and no others.

    ``row``: as it is, or a new one; ``held``: its addresses.

    An address that it has stays its own.  Raises NotFound, Invalid or Refused in words.
    """
    had = {one.network_id: one for one in row.networks}
    mine = {(one.network_id, one.address) for one in held}
    networks: list[ContainerNetwork] = []
    changes: list[Change] = []
    for one in wanted:
        network = find(one.target)
        _check(network, one, known=network.id in had, twice=any(n.network_id == network.id for n in networks))
        old = had.get(network.id)
        if old is not None and _keeps(old, one, mine):
            addresses = old.addresses
        else:
            given = turn.give(network.id, Owner(KIND, row.id), _fixed(network, one))
            if given.later:
                return Attached(None, (*turn.take_back(changes), *given.changes))
            if not given.addresses:
                raise Refused(f"{given.error}: container {row.name} cannot join it")
            addresses = given.addresses
            changes += given.changes
        aliases = tuple(dict.fromkeys(one.aliases))
        networks.append(ContainerNetwork(network_id=network.id, addresses=addresses, aliases=aliases))
    return _settled(row, tuple(networks), held, changes)


def check(asked: SingleContainer, wanted: Iterable[NetworkAttachment]) -> None:
    """Raises Invalid for names that no container has: every node and its users are told them."""
    if not _ID.fullmatch(asked.id):
        raise Invalid(f'container id "{asked.id[:64]}" is none')
    for one in wanted:
        if not _NAME.fullmatch(asked.name):
            raise Invalid(
                f'container name "{asked.name[:255]}" cannot be known in networks: write [a-zA-Z0-9] first, '
                "then at most 254 of [a-zA-Z0-9_.-]"
            )
        if len(one.aliases) > _MOST_ALIASES:
            raise Invalid(
                f"{len(one.aliases)} aliases in network {one.target}: a container has at most {_MOST_ALIASES}"
            )
        for alias in one.aliases:
            if not is_alias(alias):
                raise Invalid(f'alias "{alias[:255]}" in network {one.target} cannot be a host name')


def released(row: SingleContainer, held: Iterable[AddressAllocation]) -> tuple[Change, ...]:
    """Nothing is left of it in any network."""
    mine = [Delete(AddressAllocation, one.id, one.version) for one in held]
    return (Delete(SingleContainer, row.id, row.version), *mine) if row.version else tuple(mine)


def without(row: SingleContainer, network_id: str, held: Collection[AddressAllocation]) -> tuple[Change, ...]:
    """It leaves one network."""
    rest = tuple(one for one in row.networks if one.network_id != network_id)
    return _settled(row, rest, held, []).changes


def others_wanted(rows: Iterable[SingleContainer], reported: Iterable[SingleContainer]) -> Collection[str]:
    """Ids of ``reported`` containers that the rows know otherwise, or not at all."""
    known = {row.id: (row.name, row.up, row.networks) for row in rows}
    return [
        one.id
        for one in reported
        if (one.networks or one.id in known) and known.get(one.id) != (one.name, one.up, one.networks)
    ]


def _settled(
    row: SingleContainer,
    networks: tuple[ContainerNetwork, ...],
    held: Collection[AddressAllocation],
    changes: list[Change],
) -> Attached:
    if not networks:
        return Attached(replace(row, networks=()), released(row, held))
    kept = {f"{one.network_id}/{address}" for one in networks for address in one.addresses}
    gone = [Delete(AddressAllocation, one.id, one.version) for one in held if one.id not in kept]
    fresh = replace(row, networks=networks)
    return Attached(fresh, (*changes, *gone, Put(fresh)))


def _check(network: Network, wanted: NetworkAttachment, *, known: bool, twice: bool) -> None:
    if network.ingress or not (network.spec.attachable or known):
        raise Refused(
            f"Could not attach to network {network.name}: network {network.name} not manually attachable"
        )
    if twice:
        raise Invalid(f"network {network.name} is asked for twice")
    if wanted.vip or wanted.options:
        raise Invalid(f"a single container has neither vip nor driver-opt in network {network.name}")


def _keeps(old: ContainerNetwork, wanted: NetworkAttachment, mine: Collection[tuple[str, str]]) -> bool:
    return set(wanted.addresses) <= set(old.addresses) and all(
        (old.network_id, address) in mine for address in old.addresses
    )


def _fixed(network: Network, wanted: NetworkAttachment) -> tuple[str, ...]:
    there = {subnets.span(one).version for one in network.subnets}
    versions: list[int] = []
    for address in wanted.addresses:
        try:
            subnets.number(address)
            versions.append(subnets.version_of(address))
        except ValueError as error:
            raise Invalid(f'"{address}" in network {network.name} is not an IP address') from error
        if versions[-1] not in there:
            prefixes = ", ".join(one.subnet for one in network.subnets)
            raise Invalid(f"address {address} is not in network {network.name} ({prefixes})")
    if len(set(versions)) != len(versions):
        raise Invalid(f"in network {network.name} a container has one address of each family")
    return wanted.addresses


def not_found(ref: str) -> NotFound:
    """For whoever looks for a network."""
    return NotFound(f"network {ref} not found")
