"""Switches IPv6 on for a machine that passes traffic on, without taking its own routes away."""

from __future__ import annotations

import contextlib
from pathlib import Path

from swarmd.node.network.settings import write_setting

_CONF = Path("/proc/sys/net/ipv6/conf")
_FORWARDING = "net/ipv6/conf/all/forwarding"
_ALTHOUGH_FORWARDING = "2"


def prepare() -> str:
    """Make this machine forward IPv6; answers why it does not, or nothing.

    Forwarding makes the kernel ignore router advertisements: interfaces that listened to them are told to go
    on, otherwise the machine would lose its default route when the present one runs out.
    """
    if not Path("/proc/net/if_inet6").exists() or _read(_CONF / "all/disable_ipv6") == "1":
        return (
            "this machine has no IPv6; containers have IPv4 addresses only "
            "(see: sysctl net.ipv6.conf.all.disable_ipv6)"
        )
    if _read(_CONF / "all/forwarding") == "0":
        for path in _CONF.glob("*/accept_ra"):
            if _read(path) == "1":
                with contextlib.suppress(OSError):
                    path.write_text(_ALTHOUGH_FORWARDING)
    if not write_setting(_FORWARDING, 1):
        return f"{_FORWARDING.replace('/', '.')} cannot be set to 1; containers have IPv4 addresses only"
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
