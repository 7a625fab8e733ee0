"""Decide which addresses of networks tasks and services get.

Every address taken is a row whose id is the network and the address, written with the task or service that
has it: nobody else can have it, whatever happens at once.  Addresses are given round and round, so that one
that was freed rests for as long as there are others.  A network that chose no IPv4 subnet grows when it is
full.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from swarmd.model import subnets
from swarmd.model.network import SubnetSpec
from swarmd.model.objects import AddressAllocation, Network, Node, Row
from swarmd.model.replace import replace
from swarmd.model.spec import ClusterSpec
from swarmd.store.core.transaction import Change, Put


class Owner(msgspec.Struct, frozen=True):
    """Who asks: ``kind`` task or service."""

    kind: str
    id: str


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """``addresses``: one of each family of the network, IPv4 first; empty with ``error``, a sentence.

    ``later``: not in this turn; the network may grow in the next.  ``changes`` are to be stored either way.
    """

    addresses: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    error: str = ""
    later: bool = False


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored.  ``newest``: (network, family) → the address that was given last.

    ``asked``: network → addresses that services name; nobody gets one of them by chance.
    """

    row: Callable[[str], AddressAllocation | None]
    network: Callable[[str], Network | None]
    networks: Callable[[], Iterable[Network]]
    nodes: Callable[[], Iterable[Node]]
    settings: ClusterSpec
    newest: Mapping[tuple[str, int], int]
    asked: Mapping[str, Collection[str]]


class Turn:
    """One turn of the allocator: what it promised counts as taken, stored or not."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._promised: set[str] = set()
        self._after: dict[tuple[str, int], int] = {}
        self._full: set[tuple[str, int]] = set()
        self._grown: Network | None = None
        self._lacks: dict[tuple[str, int], Given] = {}
        self._spans: dict[str, tuple[Network, list[subnets.Span]]] = {}

    def give(self, network_id: str, owner: Owner, fixed: Collection[str] = ()) -> Given:
        """Addresses in a network; ``fixed``: those it is to have, at most one of each family."""
        network = self._network(network_id)
        if network is None:
            return Given(error=f"network {network_id} not found")
        asked = {subnets.version_of(address): address for address in fixed}
        addresses: list[str] = []
        changes: list[Change] = []
        for version in sorted({span.version for span in self._spans_of(network)}):
            address = asked.get(version, "")
            if address:
                error = self._refusal(network, address, owner)
                if error:
                    return Given(error=error, changes=self.take_back(changes))
            else:
                address, grown = self._any(network, version)
                changes += grown
            if not address:
                return replace(self._lack(network, version), changes=self.take_back(changes))
            addresses.append(address)
            changes += self._claim(network, address, owner)
        return Given(addresses=tuple(addresses), changes=tuple(changes))

    def take_back(self, changes: Iterable[Change]) -> tuple[Change, ...]:
        """Addresses that :meth:`give` gave are not needed, for another is missing.

        Answers what is to be stored all the same: that a network grew, which others of this turn count on.
        """
        rest: list[Change] = []
        for change in changes:
            if isinstance(change, Put) and isinstance(change.row, AddressAllocation):
                row = change.row
                self._promised.discard(row.id)
                place = (row.network_id, subnets.version_of(row.address))
                self._after[place] = subnets.number(row.address) - 1
            else:
                rest.append(change)
        return tuple(rest)

    def _network(self, network_id: str) -> Network | None:
        grown = self._grown
        return grown if grown is not None and grown.id == network_id else self._view.network(network_id)

    def _lack(self, network: Network, version: int) -> Given:
        place = (network.id, version)
        if place not in self._lacks:
            is_later = version == 4 and self._grown is not None and _may_grow(network)
            self._lacks[place] = Given(later=True) if is_later else Given(error=_none_free(network))
        return self._lacks[place]

    def _spans_of(self, network: Network) -> list[subnets.Span]:
        known = self._spans.get(network.id)
        if known is None or known[0] is not network:
            known = self._spans[network.id] = (network, [subnets.span(one) for one in network.subnets])
        return known[1]

    def _refusal(self, network: Network, address: str, owner: Owner) -> str:
        number = subnets.number(address)
        version = subnets.version_of(address)
        spans = self._spans_of(network)
        if not any(one.version == version and one.holds(number) for one in spans):
            return f"address {address} cannot be had in network {network.name} ({_prefixes(network)})"
        key = _row_id(network.id, address)
        holder = self._view.row(key)
        if holder is not None and holder.owner_id != owner.id:
            has = f"{holder.owner_kind} {holder.owner_id}"
            return f"address {address} of network {network.name} is still that of {has}"
        if holder is None and key in self._promised:
            return f"address {address} of network {network.name} is asked for twice"
        return ""

    def _any(self, network: Network, version: int) -> tuple[str, list[Change]]:
        """A free one, and what has to be written for it besides its row."""
        place = (network.id, version)
        address = "" if place in self._full else self._next(network, version)
        if address or version != 4:
            return address, []
        self._full.add(place)
        grown = self._larger(network)
        if grown is None:
            return "", []
        self._grown = grown
        self._full.discard(place)
        # Prefixes are given one after another: see control.networks.
        order: list[Row] = [row for row in self._view.networks() if row.ingress]
        return self._next(grown, version), [Put(grown), *map(Put, order)]

    def _next(self, network: Network, version: int) -> str:
        place = (network.id, version)
        after = self._after.get(place, self._view.newest.get(place, -1))
        spared = self._view.asked.get(network.id, ())
        for number in subnets.addresses(version, self._spans_of(network), after):
            address = subnets.text(version, number)
            key = _row_id(network.id, address)
            if key not in self._promised and self._view.row(key) is None and address not in spared:
                self._after[place] = number
                return address
        return ""

    def _claim(self, network: Network, address: str, owner: Owner) -> list[Change]:
        key = _row_id(network.id, address)
        if self._view.row(key) is not None:
            return []
        self._promised.add(key)
        row = AddressAllocation(
            id=key, network_id=network.id, address=address, owner_kind=owner.kind, owner_id=owner.id
        )
        return [Put(row)]

    def _larger(self, network: Network) -> Network | None:
        """With a further prefix, as large as all it has; one network a turn, for prefixes must not meet."""
        if self._grown is not None or not _may_grow(network):
            return None
        has = [subnets.prefix(one.subnet) for one in network.subnets if _is_4(one)]
        settings = self._view.settings
        smallest = settings.subnet_size or subnets.SIZE
        taken = (
            *(one.subnet for row in self._view.networks() for one in row.subnets),
            *(node.status.address for node in self._view.nodes() if node.status.address),
            *subnets.RESERVED,
        )
        alike = 32 - (sum(one.num_addresses for one in has).bit_length() - 1)
        for size in range(min(alike, smallest), smallest + 1):
            piece = subnets.free_piece(settings.address_pools or subnets.POOLS, size, taken)
            if piece:
                return replace(network, subnets=(*network.subnets, SubnetSpec(subnet=piece)))
        return None


def _may_grow(network: Network) -> bool:
    return not any(_is_4(one) for one in network.spec.subnets)


def _is_4(subnet: SubnetSpec) -> bool:
    return ":" not in subnet.subnet


def _row_id(network_id: str, address: str) -> str:
    return f"{network_id}/{address}"


def _prefixes(network: Network) -> str:
    return ", ".join(one.subnet for one in network.subnets)


def _none_free(network: Network) -> str:
    size = sum(span.size for span in map(subnets.span, network.subnets) if span.version == 4)
    text = f"network {network.name} ({_prefixes(network)}) has no free address: it gives {size}"
    if not _may_grow(network):
        return f"{text}. Remove tasks from it, or take a network with a larger subnet"
    return f"{text}, and the swarm's address pool has no room for it to grow"
