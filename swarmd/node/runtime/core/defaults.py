"""What a container gets when nobody says otherwise: Docker's tables, and the rules to change them."""

from __future__ import annotations

from collections.abc import Iterable

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core.linux import CAPABILITIES

CAPS = (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP",
    "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
)  # fmt: skip
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
    "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NODES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
)
# Character devices a container may open, as (major, minor); -1 is every minor.
DEVICES = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, -1))
NET_SYSCTLS = {
    "net.ipv4.ping_group_range": "0 2147483647",
    "net.ipv4.ip_unprivileged_port_start": "0",
}
_IPC_SYSCTLS = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.")
_UTS_SYSCTLS = ("kernel.domainname", "kernel.hostname")


def capability_mask(add: Iterable[str], drop: Iterable[str], *, grantable: int) -> int:
    """The bits a container holds: Docker's default, changed by ``add`` and ``drop``, of ``grantable``.

    A name that does not exist raises :class:`Invalid`.
    """
    added, dropped = _names("cap_add", add), _names("cap_drop", drop)
    if "ALL" in added:
        names = set(CAPABILITIES) - dropped
    elif "ALL" in dropped:
        names = added
    else:
        names = (set(CAPS) - dropped) | added
    return sum(1 << CAPABILITIES[name] for name in names if name != "ALL") & grantable


def capability_names(mask: int) -> frozenset[str]:
    return frozenset(name for name, bit in CAPABILITIES.items() if mask >> bit & 1)


def capability_order(mask: int) -> tuple[str, ...]:
    """The names by number."""
    return tuple(name for name, bit in CAPABILITIES.items() if mask >> bit & 1)


def _names(field: str, names: Iterable[str]) -> set[str]:
    out = {name.upper().removeprefix("CAP_") for name in names}
    for name in out - {"ALL"}:
        if name not in CAPABILITIES:
            raise Invalid(f"{field}: there is no capability {name!r}; see capabilities(7)")
    return out


def check_sysctl(name: str, *, host_network: bool, host_ipc: bool = False, host_uts: bool = False) -> None:
    """Only what belongs to the container's own namespaces may be set; else :class:`Invalid`."""
    if "/" in name or ".." in name:
        raise Invalid(f"sysctl {name!r}: write it with single dots, like net.core.somaxconn")
    if name.startswith("net."):
        place, shared = "network", host_network
    elif name.startswith(_IPC_SYSCTLS):
        place, shared = "ipc namespace", host_ipc
    elif name in _UTS_SYSCTLS:
        place, shared = "uts namespace", host_uts
    else:
        raise Invalid(f"sysctl {name!r} is not separate per container; set it on the host instead")
    if shared:
        raise Invalid(f"sysctl {name!r} cannot be set on the host {place}; remove it")
