"""Which neighbour, forwarding and route entries make the other nodes' containers reachable."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from swarmd.model.addressing import block6_of
from swarmd.node.network.core.addresses import block_of, gateway6_of, gateway_of, number_of, overlay_mac
from swarmd.node.network.core.carrying import CarrierPeer
from swarmd.node.network.core.sources import IPV6_LEAST
from swarmd.node.network.port import Endpoint, NetworkView, NodeView

Prefix = tuple[str, int]
"""(network, prefix length)"""


class Hop(Struct, frozen=True):
    """The node a route leads to, and the largest packet that way (0: what the device carries)."""

    via: str
    mtu: int = 0


class Peers(Struct, frozen=True):
    """The entries on the overlay device, each by what the kernel knows it by.

    ``neighbours``: overlay address → MAC; ``forwarding``: MAC → underlay address; ``routes``: prefix → next
    hop; ``unreachable``: prefixes of networks, in which only what has a route of its own is to be found.
    """

    neighbours: dict[str, bytes]
    forwarding: dict[bytes, str]
    routes: dict[Prefix, Hop]
    unreachable: dict[Prefix, None]


def nobody() -> Peers:
    return Peers({}, {}, {}, {})


def peers(
    nodes: Iterable[NodeView],
    self_id: str,
    networks: Iterable[NetworkView] = (),
    endpoints: Iterable[Endpoint] = (),
    *,
    inner: int = 0,
    ipv6: bool = True,
) -> Peers:
    """What must be there for every node but ourselves, and for every task of our networks elsewhere.

    Dead nodes keep theirs: they may come back.  ``inner``: what fits into the underlay's packets here, if
    that is known.
    """
    wanted = nobody()
    hops: dict[str, tuple[Hop, Hop]] = {}
    # A device that carries IPv6 says 1,280 bytes, whatever less fits into the underlay.
    mtu = inner if inner < IPV6_LEAST else 0
    for node in nodes:
        if node.id == self_id:
            continue
        mac = overlay_mac(node.number)
        four = Hop(gateway_of(node), mtu)
        six = Hop(gateway6_of(node.number), IPV6_LEAST if mtu else 0)
        hops[node.id] = four, six
        wanted.forwarding[mac] = node.address
        for hop in (four, six)[: 1 + ipv6]:
            wanted.neighbours[hop.via] = mac
        wanted.routes[four.via, block_of(node).prefixlen] = four
        if ipv6:
            wanted.routes[_prefix(block6_of(node.number))] = six
    _add_networks(wanted, networks, endpoints, hops, ipv6=ipv6)
    return wanted


def secured(
    nodes: Iterable[NodeView],
    self_id: str,
    networks: Iterable[NetworkView],
    endpoints: Iterable[Endpoint],
    *,
    ipv6: bool = True,
) -> tuple[Peers, tuple[CarrierPeer, ...]]:
    """What must be there on the device of encrypted networks, and the nodes that frames are carried to."""
    wanted = nobody()
    inside = {network.id for network in networks if network.encrypted}
    others = {node.id: node for node in nodes if node.id != self_id}
    met: dict[str, NodeView] = {}
    for endpoint in endpoints:
        node = others.get(endpoint.node_id)
        if node is None or endpoint.network_id not in inside:
            continue
        met[node.id] = node
        # The kernel takes no IPv6 gateway that it would look for on another device, as the usual one.
        four, six = Hop(gateway_of(node)), Hop(f"fe80::{node.number:x}")
        for address in endpoint.addresses:
            hop = six if ":" in address else four
            if ipv6 or hop is four:
                wanted.routes[address, 128 if hop is six else 32] = hop
                wanted.neighbours[hop.via] = overlay_mac(node.number)
    carried = (CarrierPeer(node.id, node.number, node.address) for node in met.values())
    return wanted, tuple(sorted(carried, key=lambda peer: peer.number))


def senders(entries: Peers) -> dict[int, tuple[str, ...]]:
    """By the numbers of nodes: the addresses that these entries lead to, which are heard from there alone."""
    found: dict[int, list[str]] = {}
    for (address, _), hop in entries.routes.items():
        found.setdefault(number_of(entries.neighbours[hop.via]), []).append(address)
    return {number: tuple(sorted(addresses)) for number, addresses in sorted(found.items())}


def _add_networks(
    wanted: Peers,
    networks: Iterable[NetworkView],
    endpoints: Iterable[Endpoint],
    hops: dict[str, tuple[Hop, Hop]],
    *,
    ipv6: bool,
) -> None:
    ours = set()
    for network in networks:
        if not network.encrypted:
            ours.add(network.id)
        for subnet in network.subnets:
            if ipv6 or ":" not in subnet:
                wanted.unreachable[_prefix(subnet)] = None
    for endpoint in endpoints:
        if endpoint.node_id not in hops or endpoint.network_id not in ours:
            continue
        four, six = hops[endpoint.node_id]
        for address in endpoint.addresses:
            if ":" not in address:
                wanted.routes[address, 32] = four
            elif ipv6:
                wanted.routes[address, 128] = six


def _prefix(subnet: str) -> Prefix:
    network, _, size = subnet.partition("/")
    return network, int(size)
