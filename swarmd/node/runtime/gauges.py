"""Reads what a container uses and which processes it is; a few small files each, no thread, no waiting."""

from __future__ import annotations

import os

from swarmd.node.runtime import kernfiles
from swarmd.node.runtime.core import proctable, stats
from swarmd.node.runtime.core.cgroups import ContainerGroups
from swarmd.node.runtime.measures import ContainerStats, Process


def measure(groups: ContainerGroups, *, network_of: int = 0) -> ContainerStats:
    """``network_of``: a process in the container's network namespace, 0 to leave the network out.

    Its /proc/PID/net/dev shows that namespace without anybody entering it.
    """
    texts = {key: kernfiles.read(path) for key, path in stats.files(groups).items()}
    return stats.assemble(texts, kernfiles.read(f"/proc/{network_of}/net/dev") if network_of else "")


def processes(groups: ContainerGroups) -> list[Process]:
    """All in its cgroup and those below, by pid; those that end meanwhile are left out."""
    booted = proctable.booted(kernfiles.read("/proc/stat"))
    found = []
    for pid in sorted(pids(groups)):
        texts = (kernfiles.read(f"/proc/{pid}/{name}") for name in ("stat", "status", "cmdline"))
        process = proctable.process(*texts, booted=booted)
        if process is not None:
            found.append(process)
    return found


def pids(groups: ContainerGroups) -> set[int]:
    """The processes in the first of its hierarchies; the others have the same ones."""
    return members(groups.paths()[0])


def members(directory: str) -> set[int]:
    """The processes of a group and of those its own programs made below it."""
    return {
        int(pid)
        for path, _, _ in os.walk(directory)
        for pid in kernfiles.read(f"{path}/cgroup.procs").split()
    }
