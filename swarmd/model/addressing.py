"""Addresses that follow from a node's number: its blocks of container addresses, one of each family."""

from __future__ import annotations

import ipaddress

POOL = ipaddress.IPv4Network("10.128.0.0/10")
POOL6 = ipaddress.IPv6Network("fd73:7761:726d::/48")


def block_of(number: int) -> str:
    """The /24 of node ``number`` (1..16383): 10.128.0.0 + number * 256."""
    return f"{POOL.network_address + number * 256}/24"


def block6_of(number: int) -> str:
    """The /64 of node ``number`` (1..16383): fd73:7761:726d:NUMBER::, the number in hexadecimal."""
    return f"{POOL6.network_address + (number << 64)}/64"


def address6_of(address: str) -> str:
    """The IPv6 address that goes with an IPv4 address of a node's block: same node, same place."""
    number, place = divmod(int(ipaddress.IPv4Address(address)) - int(POOL.network_address), 256)
    return str(POOL6.network_address + (number << 64) + place)
