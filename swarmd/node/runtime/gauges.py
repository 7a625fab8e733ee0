"""Reads what a container uses and which processes it is; a few small files each, no thread, no waiting."""

from __future__ import annotations

import os
from collections.abc import Iterator

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
    """The processes in the first of its hierarchies, with the groups its own programs made."""
    return {int(pid) for top in groups.paths()[:1] for text in _members(top) for pid in text.split()}


def _members(top: str) -> Iterator[str]:
    for directory, _, _ in os.walk(top):
        yield kernfiles.read(f"{directory}/cgroup.procs")
