"""How many connections may be open whose other end has not shown yet that it is a manager.

Anybody on the network can open them, and keep them for some seconds.  What one address can take is so
little that managers get in all the same.
"""

from __future__ import annotations

import ipaddress
from collections import Counter

MOST = 512
MOST_OF_ONE = 24


class Admission:
    """Counts strangers, in all and by address (an IPv6 host has all of its /64)."""

    def __init__(self, most: int = MOST, most_of_one: int = MOST_OF_ONE) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._strangers: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Whether one more stranger from that IP is let in; then :meth:`leave` is due, once."""
        source = _source(address)
        if self._strangers.total() >= self._most or self._strangers[source] >= self._most_of_one:
            return False
        self._strangers[source] += 1
        return True

    def leave(self, address: str) -> None:
        """It is gone, or no stranger any more."""
        source = _source(address)
        self._strangers[source] -= 1
        if not self._strangers[source]:
            del self._strangers[source]


def _source(address: str) -> str:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
