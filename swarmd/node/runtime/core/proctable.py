"""One process from the texts of its files in /proc."""

from __future__ import annotations

from swarmd.node.runtime.measures import Process

TICKS = 100  # a second; what the kernel reports in, whatever its own rate


def process(stat: str, status: str, cmdline: str, *, booted: float) -> Process | None:
    """From /proc/PID/{stat,status,cmdline}; ``booted``: seconds since 1970.  None if it has just ended."""
    head, _, tail = stat.rpartition(")")
    pid, _, name = head.partition(" (")
    fields = tail.split()
    if len(fields) < 20:
        return None
    command = cmdline.rstrip("\0").replace("\0", " ")
    return Process(
        pid=int(pid),
        ppid=int(fields[1]),
        uid=_effective_user(status),
        cpu=(int(fields[11]) + int(fields[12])) / TICKS,
        started_at=booted + int(fields[19]) / TICKS,
        state=fields[0],
        command=command or f"[{name}]",
    )


def _effective_user(status: str) -> int:
    for line in status.splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[2])
    return 0


def booted(stat: str) -> float:
    """When the machine started, from /proc/stat."""
    for line in reversed(stat.splitlines()):
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
