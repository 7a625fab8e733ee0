"""Which neighbour, forwarding and route entries make the other nodes' blocks reachable."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from swarmd.node.network.core.addresses import block_of, gateway_of, overlay_mac
from swarmd.node.network.port import NodeView


class Peers(Struct, frozen=True):
    """The entries on the overlay device, each by what the kernel knows it by.

    ``neighbours``: overlay address → MAC; ``forwarding``: MAC → underlay address; ``routes``:
    (network, prefix length) → next hop.
    """

    neighbours: dict[str, bytes]
    forwarding: dict[bytes, str]
    routes: dict[tuple[str, int], str]


NOBODY = Peers({}, {}, {})


def peers(nodes: Iterable[NodeView], self_id: str) -> Peers:
    """What must be there for every node but ourselves.  Dead nodes keep theirs: they may come back."""
    wanted = Peers({}, {}, {})
    for node in nodes:
        if node.id == self_id:
            continue
        block, gateway, mac = block_of(node), gateway_of(node), overlay_mac(node.number)
        wanted.neighbours[gateway] = mac
        wanted.forwarding[mac] = node.address
        wanted.routes[gateway, block.prefixlen] = gateway
    return wanted
