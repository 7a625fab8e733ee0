"""The steps of a child that has another runtime make and run the container, and stays as its parent.

It stands between the spawner and the container: the runtime's commands (``crun create``, ``crun start``) are
its children, and so is the container's first process once the first of them has left.  It ends with the
container's exit code, so that for the spawner it is a container like any other.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import errno
import os

from swarmd.node.runtime import child_copy, kernel, kernel_mounts
from swarmd.node.runtime.child_paths import LOOKUP, Child
from swarmd.node.runtime.core import linux

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_LOG = 4096


def _hide(child: Child, path: str) -> None:
    kernel.umount(path, linux.MNT_DETACH)


def _own_groups(child: Child, mounts: list[tuple[str, str, list[str]]]) -> None:
    """In a cgroup namespace of its own the runtime finds the container's groups at the top of everything."""
    kernel.unshare(linux.CLONE_NEWCGROUP)
    for point, kind, names in mounts:
        where = os.open(point, linux.O_PATH | os.O_DIRECTORY)
        tree = kernel_mounts.new_filesystem(kind, "cgroup", names, 0)
        kernel.move_mount(tree, where)
        os.close(tree)
        os.close(where)


def _stage(child: Child, slot: int, path: str) -> None:
    """What was looked up safely below a volume, at a place whose path can be told to a runtime."""
    tree = child.trees.pop(slot)
    where = os.open(path, linux.O_PATH)
    kernel.move_mount(tree, where)
    os.close(where)
    os.close(tree)


def _fill(child: Child, root: str, target: str, source: str) -> None:
    """An empty volume gets what the image has at its target."""
    top = os.open(root, linux.O_PATH | os.O_DIRECTORY)
    volume = os.open(source, linux.O_PATH | os.O_DIRECTORY)
    try:
        inside = kernel.openat2(top, target, linux.O_PATH, LOOKUP)
    except FileNotFoundError:
        inside = -1
    if inside >= 0:
        child_copy.fill(inside, volume)
        os.close(inside)
    os.close(volume)
    os.close(top)


def _runtime_create(child: Child, command: list[str], env: dict[str, str], log: str, pid_file: str) -> None:
    kernel.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    _run(command, env, log)
    with open(pid_file, encoding="ascii") as file:
        child.container = int(file.read())


def _runtime_start(child: Child, command: list[str], env: dict[str, str], log: str) -> None:
    _run(command, env, log)


def _run(command: list[str], env: dict[str, str], log: str) -> None:
    """To its end; what it has to say about a failure is in its log."""
    defaults = [number for number in range(1, 32) if number not in (linux.SIGKILL, _signal.SIGSTOP)]
    pid = os.posix_spawn(command[0], command, env, setsigdef=defaults, setsigmask=[])
    if os.waitpid(pid, 0)[1] == 0:
        return
    with open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _MAX_LOG))
        lines = file.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
    text = lines[-1]
    missing = "not found" in text or "no such file" in text.lower()
    number = errno.ENOENT if missing else errno.EACCES if "denied" in text.lower() else errno.ECANCELED
    raise OSError(number, f"{os.path.basename(command[0])}: {text}")


def _watch(child: Child) -> None:
    """The end of the channel tells the spawner that the program runs."""
    child.channel.close()
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child.container:
            os._exit(128 + (status & 0x7F) if status & 0x7F else status >> 8)


STEPS: dict[str, Callable[..., None]] = {
    "hide": _hide,
    "own_groups": _own_groups,
    "stage": _stage,
    "fill": _fill,
    "runtime_create": _runtime_create,
    "runtime_start": _runtime_start,
    "watch": _watch,
}
