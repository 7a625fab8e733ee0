"""Addresses that follow from a node's number: its block of container addresses."""

from __future__ import annotations

import ipaddress

POOL = ipaddress.IPv4Network("10.128.0.0/10")


def block_of(number: int) -> str:
    """The /24 of node ``number`` (1..16383): 10.128.0.0 + number * 256."""
    return f"{POOL.network_address + number * 256}/24"
