"""Numbers into addresses: blocks, overlay MACs, connection marks, the next free container address."""

from __future__ import annotations

from collections.abc import Container
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, NetmaskValueError

from swarmd.model.addressing import POOL6, block6_of
from swarmd.model.errors import Invalid
from swarmd.node.network.port import NodeView

LARGEST_NUMBER = 16383
GATEWAY = "169.254.1.1"
GATEWAY6 = "fe80::1"
GATEWAY_MAC = bytes([0xEE] * 6)
ITSELF6 = str(POOL6.network_address + 1)
"""What a container that calls itself through a published IPv6 port sees; IPv4: ``GATEWAY``.  Of number 0, so
no node's.  A link-local address would do no better: a reply to it needs an interface."""

INGRESS_IS = 0x010000
"""Mark role at the backend's node: the flow came in through node (mark & 0xffff)."""
BACKEND_IS = 0x020000
"""Mark role at the ingress node: the flow is answered on node (mark & 0xffff)."""


def block_of(node: NodeView) -> IPv4Network:
    """The node's container block.  Raises :class:`Invalid` naming the field that is wrong."""
    if not 1 <= node.number <= LARGEST_NUMBER:
        raise Invalid(f"number of node {node.id}: {node.number} is not between 1 and {LARGEST_NUMBER}")
    try:
        IPv4Address(node.address)
    except AddressValueError:
        raise Invalid(f"address of node {node.id}: {node.address!r} is not an IPv4 address") from None
    try:
        block = IPv4Network(node.block)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise Invalid(
            f"block of node {node.id}: {node.block!r} is not an IPv4 prefix such as 10.128.7.0/24"
        ) from None
    if block.prefixlen > 30:
        raise Invalid(f"block of node {node.id}: {node.block} has no room for containers; give it a /24")
    return block


def gateway_of(node: NodeView) -> str:
    """The node's own address inside the overlay: the first of its block."""
    return str(block_of(node).network_address)


def gateway6_of(number: int) -> str:
    """The node's own IPv6 address inside the overlay: the first of its block."""
    return block6_of(number).partition("/")[0]


def overlay_mac(number: int) -> bytes:
    """02:77 and the node's number in 32 bits."""
    return b"\x02\x77" + number.to_bytes(4, "big")


def number_of(mac: bytes) -> int:
    """The node's number in an overlay MAC."""
    return int.from_bytes(mac[2:], "big")


def container_mac(address: str) -> bytes:
    """02:42 and the container's address, so that nobody ever has to ask for it."""
    return b"\x02\x42" + packed(address)


def packed(address: str) -> bytes:
    """An IPv4 address as four bytes, an IPv6 address as sixteen."""
    if ":" in address:
        return IPv6Address(address).packed
    return bytes(map(int, address.split(".")))


def index_of(block: IPv4Network, address: str) -> int:
    """The place of an address in its block.  Raises :class:`Invalid` for one that no container may have."""
    try:
        place = int(IPv4Address(address)) - int(block.network_address)
    except AddressValueError:
        raise Invalid(f"container address {address!r} is not an IPv4 address") from None
    if not 0 < place < block.num_addresses - 1:
        raise Invalid(f"container address {address} is not a usable address of this node's block {block}")
    return place


def free_index(block: IPv4Network, taken: Container[int], after: int) -> int | None:
    """The next free place behind ``after``, going round, so that an address rests before it is used again."""
    usable = block.num_addresses - 2
    for step in range(usable):
        place = (after + step) % usable + 1
        if place not in taken:
            return place
    return None


def address_at(block: IPv4Network, index: int) -> str:
    return str(block.network_address + index)
