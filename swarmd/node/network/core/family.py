"""The two families of addresses: what the rules, the kernel's messages and the elements call them."""

from __future__ import annotations

from typing import Literal

Family = Literal["ip", "ip6"]
"""nftables' own words."""

IP: Family = "ip"
IP6: Family = "ip6"
FAMILIES: tuple[Family, ...] = (IP, IP6)


def family_of(address: str) -> Family:
    """Of an address or prefix as text."""
    return IP6 if ":" in address else IP
