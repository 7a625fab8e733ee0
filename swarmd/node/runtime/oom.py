"""Hears from the kernel that a container ran out of memory, while it runs and whichever process it was."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from swarmd.node.runtime import kernel, kernfiles
from swarmd.node.runtime.core import cgroups, linux
from swarmd.node.runtime.core.cgroups import ContainerGroups


def kills(groups: ContainerGroups) -> int:
    """How many processes the kernel killed in the container, with the groups its own programs made."""
    directory = groups.v1.get("memory")
    if directory is None:  # a counter of v2 counts for the groups below it too
        return cgroups.oom_kills(kernfiles.read(f"{groups.v2}/memory.events"))
    count = cgroups.oom_kills(kernfiles.read(f"{directory}/memory.oom_control"))
    with contextlib.suppress(OSError):
        if os.stat(directory).st_nlink > 2:
            below = (path for path, _, _ in os.walk(directory) if path != directory)
            count += sum(cgroups.oom_kills(kernfiles.read(f"{path}/memory.oom_control")) for path in below)
    return count


class MemoryWatch:
    """Calls ``changed`` in the event loop when memory has run out; on v1 that is before anybody is killed.

    v2 also calls for lesser events of the same file.
    """

    def __init__(self, groups: ContainerGroups, changed: Callable[[], None]) -> None:
        """Raises :class:`OSError` where the kernel tells nobody."""
        self._loop = asyncio.get_running_loop()
        directory = groups.v1.get("memory")
        self._fd = (
            _eventfd(directory)
            if directory
            else kernel.inotify(f"{groups.v2}/memory.events", linux.IN_MODIFY)
        )
        self._changed = changed
        self._loop.add_reader(self._fd, self._heard)

    def _heard(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 4096)
        self._changed()

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


def _eventfd(directory: str) -> int:
    """The way of v1: an eventfd is named to the group, together with the file it is about."""
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        about = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            kernfiles.write(f"{directory}/cgroup.event_control", f"{fd} {about}")
        finally:
            os.close(about)
    except OSError:
        os.close(fd)
        raise
    return fd
