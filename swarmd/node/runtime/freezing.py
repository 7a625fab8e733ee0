"""Stops all processes of a container where they are, and lets them go on."""

from __future__ import annotations

import asyncio
import contextlib
import os

from swarmd.kit.clock import Clock
from swarmd.model.errors import Unavailable
from swarmd.node.runtime import kernel, kernfiles
from swarmd.node.runtime.core import linux
from swarmd.node.runtime.core.cgroups import ContainerGroups

_PATIENCE = 10.0
_PAUSE = 0.005


async def freeze(groups: ContainerGroups, clock: Clock) -> None:
    """Returns when every process stands still; they go on again if that takes too long.

    Raises :class:`Unavailable` then: one of them waits in the kernel.
    """
    try:
        async with asyncio.timeout(_PATIENCE):
            if groups.v2:
                await _freeze_v2(groups.v2)
            else:
                await _freeze_v1(groups.v1.get("freezer", ""), clock)
    except BaseException as error:
        thaw(groups)
        if isinstance(error, TimeoutError | OSError):
            raise Unavailable(
                f"its processes cannot be stopped: {str(error) or 'they do not react'}"
            ) from error
        raise


async def _freeze_v2(group: str) -> None:
    """Told by the kernel: the file of events is modified when the last process has stopped."""
    events = f"{group}/cgroup.events"
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    fd = kernel.inotify(events, linux.IN_MODIFY)

    def heard() -> None:
        os.read(fd, 4096)
        changed.set()

    loop.add_reader(fd, heard)
    try:
        kernfiles.write(f"{group}/cgroup.freeze", "1")
        while "frozen 1" not in kernfiles.read(events):
            await changed.wait()
            changed.clear()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


async def _freeze_v1(group: str, clock: Clock) -> None:
    """This controller tells nobody; and one that forks while it freezes needs to be asked again."""
    while "FROZEN" not in kernfiles.read(f"{group}/freezer.state").split():
        kernfiles.write(f"{group}/freezer.state", "FROZEN")
        await clock.sleep(_PAUSE)


def thaw(groups: ContainerGroups) -> None:
    """Nothing happens to one that is not frozen, or gone."""
    path, value = _switch(groups, "0", "THAWED")
    with contextlib.suppress(OSError):
        kernfiles.write(path, value)


def is_frozen(groups: ContainerGroups) -> bool:
    """Whether it was told to stand still; the kernel remembers that for a daemon that comes back."""
    path, value = _switch(groups, "1", "FROZEN")
    return kernfiles.read(path).strip() == value


def _switch(groups: ContainerGroups, v2: str, v1: str) -> tuple[str, str]:
    if groups.v2:
        return f"{groups.v2}/cgroup.freeze", v2
    return f"{groups.v1.get('freezer', '')}/freezer.state", v1
