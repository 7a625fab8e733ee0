"""Names of what the kernel can give, limit or take from a container, as users write them."""

from __future__ import annotations

CAPABILITIES = frozenset((
    "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN",
    "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE",
    "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST",
    "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT",
    "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE",
    "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM",
))  # fmt: skip

ULIMITS = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
    "rtprio", "rttime", "sigpending", "stack", "as",
)  # fmt: skip

_IPC_SYSCTLS = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.")
_UTS_SYSCTLS = ("kernel.domainname", "kernel.hostname")


def is_capability(name: str) -> bool:
    """With or without ``CAP_``; ``ALL`` is every one."""
    return name == "ALL" or name.upper().removeprefix("CAP_") in CAPABILITIES


def sysctl_namespace(name: str) -> str:
    """``net``, ``ipc`` or ``uts``: what a container has of its own; empty for one of the whole machine."""
    if name.startswith("net."):
        return "net"
    if name in _UTS_SYSCTLS:
        return "uts"
    return "ipc" if name.startswith(_IPC_SYSCTLS) else ""
