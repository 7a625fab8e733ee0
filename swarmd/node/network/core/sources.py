"""Which addresses a container has, and which of them it speaks from to whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from swarmd.model.errors import Unavailable
from swarmd.node.network.port import Attachment, NetworkView

IPV6_LEAST = 1280
"""Bytes that every link must carry for IPv6; the kernel takes IPv6 from devices that carry less."""


class Source(Struct, frozen=True):
    """An address of a container, used for what goes to the prefixes ``reaches``, in packets of at most
    ``mtu`` bytes (0: what the device carries)."""

    address: str
    reaches: tuple[str, ...]
    mtu: int = 0

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.address

    def targets(self) -> Iterable[tuple[str, int]]:
        """(network, prefix length) of each prefix."""
        for prefix in self.reaches:
            network, _, size = prefix.partition("/")
            yield network, int(size)


def device_mtu(inner: int, *, ipv6: bool) -> int:
    """Of the overlay's device and of containers': what fits into the underlay's packets (``inner``), but
    enough for IPv6.  Where that is more, IPv6 packets between nodes are carried in two."""
    return max(inner, IPV6_LEAST) if ipv6 else inner


def sources(place: Attachment, networks: Mapping[str, NetworkView], inner: int) -> tuple[Source, ...]:
    """The addresses of a container, those of its node first.

    ``inner``: what fits into the underlay's packets.  Raises :class:`Unavailable` for a network that is not
    known (yet).
    """
    limit = inner if inner < IPV6_LEAST else 0
    found = [Source(place.address, ("0.0.0.0/0",), limit)]
    if place.address6:
        found.append(Source(place.address6, ("::/0",)))
    for network_id, addresses in place.networks:
        network = networks.get(network_id)
        if network is None:
            raise Unavailable(f"this node has not been told of network {network_id} yet; it is tried again")
        found += (_in_network(address, network, inner) for address in addresses)
    return tuple(one for one in found if place.address6 or not one.is_ipv6)


def _in_network(address: str, network: NetworkView, inner: int) -> Source:
    ipv6 = ":" in address
    asked = min(network.mtu or inner, inner)
    mtu = max(asked, IPV6_LEAST) if ipv6 else asked
    prefixes = tuple(subnet for subnet in network.subnets if (":" in subnet) == ipv6)
    return Source(address, prefixes, mtu if mtu < max(inner, IPV6_LEAST) else 0)


def kept(place: Attachment, given: Iterable[Source]) -> Attachment:
    """The container's place with the addresses it really got."""
    had = {source.address for source in given}
    networks = (
        (network_id, tuple(address for address in addresses if address in had))
        for network_id, addresses in place.networks
    )
    return replace(
        place,
        address6=place.address6 if place.address6 in had else "",
        networks=tuple((network_id, addresses) for network_id, addresses in networks if addresses),
    )
