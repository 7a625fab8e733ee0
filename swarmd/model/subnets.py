"""Prefixes and the addresses in them: which are free for a network, which of them tasks and services get.

Text at the edges, integers inside: ten thousand tasks are a matter of milliseconds.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from swarmd.model.addressing import POOL
from swarmd.model.network import SubnetSpec

Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network

POOLS = ("10.0.0.0/9",)
SIZE = 24
"""Where networks without a subnet get theirs from, and its length: Docker's without the nodes' half."""

POOL6 = "fd73:7761:726e::/48"
SIZE6 = 64

RESERVED = {
    str(POOL): "the nodes' own addresses",
    "fd73:7761:726d::/48": "the nodes' own addresses",
    "0.0.0.0/8": "no address of a machine",
    "127.0.0.0/8": "a machine's loopback",
    "169.254.0.0/16": "the way from a container to its node",
    "224.0.0.0/3": "multicast and what nobody may use",
    "::/16": "a machine's loopback, and what nobody may use",
    "fe80::/10": "addresses of a single link",
    "ff00::/8": "multicast",
}
"""What no network can have, and what it is there for."""


class Span(msgspec.Struct, frozen=True):
    """The addresses of one prefix of a network.

    ``low`` to ``high`` are given to whoever asks for any; ``first`` to ``last`` may be asked for by name;
    ``kept``: neither (the gateway and the reserved ones).
    """

    version: int
    first: int
    last: int
    low: int
    high: int
    kept: frozenset[int]

    @property
    def size(self) -> int:
        """How many addresses it gives."""
        return self.high - self.low + 1 - sum(1 for one in self.kept if self.low <= one <= self.high)

    def holds(self, address: int) -> bool:
        """It may be asked for."""
        return self.first <= address <= self.last and address not in self.kept


def prefix(text: str) -> Prefix:
    """Raises ValueError with a reason; bits beyond the prefix are one."""
    return ipaddress.ip_network(text)


def number(address: str) -> int:
    """Raises ValueError when it is none."""
    return int(ipaddress.ip_address(address))


def version_of(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


def text(version: int, address: int) -> str:
    return str(ipaddress.IPv4Address(address) if version == 4 else ipaddress.IPv6Address(address))


def gateway(subnet: SubnetSpec) -> str:
    """The one asked for, else the first address."""
    return subnet.gateway or str(prefix(subnet.subnet).network_address + 1)


def span(subnet: SubnetSpec) -> Span:
    """What of a prefix is given.  IPv4 has a broadcast address, both families one for the network itself."""
    whole = prefix(subnet.subnet)
    first, last = int(whole.network_address) + 1, int(whole.broadcast_address)
    if whole.version == 4:
        last -= 1
    part = prefix(subnet.ip_range) if subnet.ip_range else whole
    return Span(
        version=whole.version,
        first=first,
        last=last,
        low=max(first, int(part.network_address)),
        high=min(last, int(part.broadcast_address)),
        kept=frozenset({number(gateway(subnet)), *(number(one) for one in subnet.reserved.values())}),
    )


def overlapping(subnet: str, others: Iterable[str]) -> str:
    """The first of ``others`` that shares addresses with ``subnet``; "" when none does."""
    mine = prefix(subnet)
    return next((other for other in others if _meet(mine, prefix(other))), "")


def free_piece(pools: Sequence[str], size: int, taken: Iterable[str]) -> str:
    """The first prefix of ``size`` bits in ``pools`` that meets none of ``taken``; "" when there is none."""
    held = sorted(_bounds(prefix(one)) for one in taken)
    for pool in map(prefix, pools):
        step = 1 << (pool.max_prefixlen - size)
        found = _gap(pool, step, held) if size >= pool.prefixlen else None
        if found is not None:
            return f"{text(pool.version, found)}/{size}"
    return ""


def _gap(pool: Prefix, step: int, held: Iterable[tuple[int, int, int]]) -> int | None:
    start, (_, _, end) = int(pool.network_address), _bounds(pool)
    for version, low, high in held:
        if version != pool.version or high < start:
            continue
        if low >= start + step:
            break
        start = (high // step + 1) * step
    return start if start + step - 1 <= end else None


def addresses(version: int, spans: Sequence[Span], after: int) -> Iterator[int]:
    """Those that are given, beginning behind ``after``, each once: one that was freed rests longest."""
    mine = [one for one in spans if one.version == version]
    later = [(max(one.low, after + 1), one.high, one.kept) for one in mine]
    before = [(one.low, min(one.high, after), one.kept) for one in mine]
    for low, high, kept in (*later, *before):
        yield from (address for address in range(low, high + 1) if address not in kept)


def _bounds(one: Prefix) -> tuple[int, int, int]:
    return one.version, int(one.network_address), int(one.broadcast_address)


def _meet(one: Prefix, other: Prefix) -> bool:
    (version, low, high), (other_version, other_low, other_high) = _bounds(one), _bounds(other)
    return version == other_version and low <= other_high and other_low <= high
