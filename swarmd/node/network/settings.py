"""Writes the kernel's settings of this network namespace."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

AT_LEAST = {"net/netfilter/nf_conntrack_tcp_timeout_established": 86_400}
"""So many seconds a TCP connection may be silent before the kernel forgets where it leads.  Kernels come with
five days; who has set less than one gets one, so that no idle connection through the mesh is lost."""


def write_setting(name: str, value: int) -> bool:
    """Write /proc/sys/``name``; answers whether it has that value now."""
    path = Path("/proc/sys") / name
    with contextlib.suppress(OSError):
        path.write_text(f"{value}\n")
    try:
        return path.read_text().strip() == str(value)
    except OSError:
        return False


def deaf(device: str) -> None:
    """Router advertisements that come in by this device change nothing here."""
    write_setting(f"net/ipv6/conf/{device}/accept_ra", 0)


def raise_settings() -> None:
    """Lift what is lower than :data:`AT_LEAST`."""
    for name, least in too_low().items():
        write_setting(name, least)


def too_low() -> dict[str, int]:
    """The settings that are lower than they should be, with what they should be at least."""
    return {name: least for name, least in AT_LEAST.items() if _number(name) < least}


def _number(name: str) -> float:
    try:
        return int((Path("/proc/sys") / name).read_text())
    except (OSError, ValueError):
        return math.inf  # a kernel that does not know it
