"""Gives a container that is there a group of one more v1 hierarchy, with all of its processes in it."""

from __future__ import annotations

import contextlib
import os

from swarmd.kit.clock import Clock
from swarmd.model.errors import Unavailable
from swarmd.node.runtime import freezing, gauges, kernfiles
from swarmd.node.runtime.cgroup import CgroupDriver
from swarmd.node.runtime.core.cgroups import ContainerGroups


async def widen(driver: CgroupDriver, now: ContainerGroups, wider: ContainerGroups, clock: Clock) -> None:
    """They stand still for it, so that none is born outside; a paused container stays paused.

    Raises :class:`Unavailable`; everything is as before then.
    """
    added = [path for path in wider.paths() if path not in now.paths()]
    paused = freezing.is_frozen(now)
    if not paused:
        await freezing.freeze(now, clock)
    try:
        for path in added:
            driver.make(path)
            _move(gauges.pids(now), path)
    except OSError as error:
        for path in added:
            with contextlib.suppress(OSError):  # a parent of ours holds the daemon itself
                _move(gauges.members(path), os.path.dirname(os.path.dirname(path)))
                os.rmdir(path)
        raise Unavailable(
            f"cannot move the container's processes into {', '.join(added)}: {error.strerror}"
        ) from error
    finally:
        if not paused:
            freezing.thaw(now)


def _move(pids: set[int], directory: str) -> None:
    for pid in sorted(pids):
        with contextlib.suppress(ProcessLookupError):
            kernfiles.write(f"{directory}/cgroup.procs", str(pid))
