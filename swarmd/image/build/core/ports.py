"""EXPOSE: ``80``, ``53/udp``, ``8000-8010/tcp``.  Pure."""

from __future__ import annotations

import re

from swarmd.model.errors import Invalid

_PROTOCOLS = ("tcp", "udp", "sctp")
_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


def read_ports(text: str) -> tuple[str, ...]:
    """Every port as ``80/tcp``.  What stands before a colon is no part of an image."""
    container = text.rpartition(":")[2]
    port, _, protocol = container.partition("/")
    if not port:
        raise Invalid(f"no port specified: {text}<empty>")
    if protocol and protocol.lower() not in _PROTOCOLS:
        raise Invalid(f"invalid proto: {protocol}")
    found = _RANGE.fullmatch(port)
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
    if not low <= high <= 65535:
        raise Invalid(f"invalid containerPort: {port}")
    return tuple(f"{number}/{protocol.lower() or 'tcp'}" for number in range(low, high + 1))
