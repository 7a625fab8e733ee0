"""Writes the kernel's settings of this network namespace."""

from __future__ import annotations

import contextlib
from pathlib import Path


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
