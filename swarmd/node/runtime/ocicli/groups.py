"""The cgroups of one container of ``swarmd-runtime``: made, used to kill and to freeze, removed.

Like ``cgroup.py`` for the daemon's containers, but at the paths others name, and without an event loop.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from collections.abc import Iterable

from swarmd.model.errors import Unavailable
from swarmd.node.runtime import kernel, kernfiles
from swarmd.node.runtime.core import linux, oci_groups
from swarmd.node.runtime.core.cgroups import Cgroups, ContainerGroups

MANAGERS = ("cgroupfs", "systemd", "disabled")
_ATTEMPTS = 400
_PAUSE_MS = 10


def top() -> Cgroups:
    """The hierarchies of this machine; :class:`Invalid` if there are none."""
    return oci_groups.roots(kernfiles.read("/proc/self/mountinfo"), kernfiles.read("/proc/self/cgroup"))


def missing(paths: Iterable[str]) -> tuple[str, ...]:
    """Those of ``paths`` and the directories above that do not exist yet, the highest first."""
    out: dict[str, None] = {}
    for path in paths:
        above = []
        while not os.path.isdir(path):
            above.append(path)
            path = os.path.dirname(path)
        out |= dict.fromkeys(reversed(above))
    return tuple(out)


def make(groups: ContainerGroups, made: tuple[str, ...]) -> None:
    """The directories ``made``; in ``cpuset`` they take over what is above, or no process could enter."""
    cpuset = groups.v1.get("cpuset", "")
    try:
        for path in made:
            os.mkdir(path, 0o755)
            if cpuset == path or cpuset.startswith(path + "/"):
                _inherit(path)
            elif groups.v2 and not groups.v1 and path != groups.v2:
                _delegate(path)
    except OSError as error:
        raise Unavailable(f"cannot make cgroup {error.filename}: {error.strerror}") from error


def _inherit(path: str) -> None:
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not kernfiles.read(f"{path}/{name}").strip():
            kernfiles.write(f"{path}/{name}", kernfiles.read(f"{os.path.dirname(path)}/{name}").strip())


def _delegate(path: str) -> None:
    for name in kernfiles.read(f"{path}/cgroup.controllers").split():
        with contextlib.suppress(OSError):  # one that is not to be had there is missed when a limit needs it
            kernfiles.write(f"{path}/cgroup.subtree_control", f"+{name}")


def procs_files(groups: ContainerGroups) -> tuple[str, ...]:
    """What a child writes itself into; in the v2 tree it is born."""
    return tuple(f"{path}/cgroup.procs" for path in dict.fromkeys(groups.v1.values()))


def processes(groups: ContainerGroups) -> list[int]:
    """The processes in them, also in groups below."""
    directory = groups.v2 or groups.v1.get("pids") or next(iter(groups.v1.values()), "")
    found: set[int] = set()
    for base, _, _ in os.walk(directory) if directory else ():
        found.update(int(pid) for pid in kernfiles.read(f"{base}/cgroup.procs").split())
    return sorted(found - {0})


def kill(groups: ContainerGroups, number: int = linux.SIGKILL) -> None:
    """A signal for every process in them; SIGKILL in one blow where the kernel can."""
    if number == linux.SIGKILL and groups.v2:
        with contextlib.suppress(OSError):
            kernfiles.write(f"{groups.v2}/cgroup.kill", "1")
            return
    for pid in processes(groups):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def freeze(groups: ContainerGroups) -> None:
    """Returns when every process stands still; :class:`Unavailable` if that cannot be, or takes too long."""
    if not groups.v2 and not groups.v1.get("freezer"):
        raise Unavailable("the container has no cgroup that can be frozen")
    if groups.v2:
        events = f"{groups.v2}/cgroup.events"
        fd = kernel.inotify(events, linux.IN_MODIFY)
        try:
            kernfiles.write(f"{groups.v2}/cgroup.freeze", "1")
            for _ in range(_ATTEMPTS):
                if "frozen 1" in kernfiles.read(events):
                    return
                _wait(fd)
        finally:
            os.close(fd)
    else:
        for _ in range(_ATTEMPTS):
            kernfiles.write(f"{groups.v1['freezer']}/freezer.state", "FROZEN")
            if kernfiles.read(f"{groups.v1['freezer']}/freezer.state").strip() == "FROZEN":
                return
            _wait(-1)
    thaw(groups)
    raise Unavailable("its processes do not stand still: one of them waits in the kernel")


def _wait(fd: int) -> None:
    """For the descriptor, or a little."""
    poll = select.poll()
    if fd >= 0:
        poll.register(fd, select.POLLIN)
    if poll.poll(_PAUSE_MS) and fd >= 0:
        os.read(fd, 4096)


def wait_readable(fd: int) -> None:
    """Up to some seconds."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll(_ATTEMPTS * _PAUSE_MS)


def thaw(groups: ContainerGroups) -> None:
    """Nothing happens to one that is not frozen, or gone."""
    with contextlib.suppress(OSError):
        if groups.v2:
            kernfiles.write(f"{groups.v2}/cgroup.freeze", "0")
        elif "freezer" in groups.v1:
            kernfiles.write(f"{groups.v1['freezer']}/freezer.state", "THAWED")


def is_frozen(groups: ContainerGroups) -> bool:
    if groups.v2:
        return kernfiles.read(f"{groups.v2}/cgroup.freeze").strip() == "1"
    return kernfiles.read(f"{groups.v1.get('freezer', '')}/freezer.state").strip() in ("FROZEN", "FREEZING")


def remove(groups: ContainerGroups, made: tuple[str, ...]) -> None:
    """Kill what is in the container's own groups and remove them, then what was made above and is empty.

    A group that was there before the container stays, with what is in it.
    """
    own = [path for path in groups.paths() if path in made]
    for path in own:
        for _ in range(_ATTEMPTS):
            if _removed(path):
                break
            kill(ContainerGroups(path if path == groups.v2 else "", {"": path}))
            _wait(-1)
        else:
            raise Unavailable(f"cgroup {path} still has processes and cannot be removed")
    for path in reversed(made):
        if path not in own:
            with contextlib.suppress(OSError):
                os.rmdir(path)


def _removed(path: str) -> bool:
    try:
        for base, _, _ in os.walk(path, topdown=False):
            os.rmdir(base)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
        return False
    return True
