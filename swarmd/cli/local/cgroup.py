"""A node's cgroup directories: made, frozen, killed, removed; in every hierarchy this machine has."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from swarmd.cli.local.core import hierarchies
from swarmd.cli.local.core.hierarchies import Hierarchy
from swarmd.cli.local.waiting import until
from swarmd.model.errors import Unavailable

_FREEZE_SECONDS = 10.0
_MAKE_SECONDS = 10.0
_REMOVE_SECONDS = 10.0
_GONE = (errno.ENOENT, errno.ENODEV)
"""The second is said of a file that was open when its directory was removed."""


def here() -> tuple[Hierarchy, ...]:
    """The hierarchies as this process sees them; :class:`Unavailable` when there is none."""
    found = hierarchies.parse(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
    if not found:
        raise Unavailable("No cgroup hierarchy is mounted below /sys/fs/cgroup; mount cgroup2 there first.")
    return found


def bases() -> tuple[str, ...]:
    """The directories below which nodes are put: this process's own cgroup in each hierarchy.

    Under pure v2 a cgroup that holds processes cannot hand controllers to its children: then it is the top
    of the tree, whose controllers are handed out already.
    """
    found = here()
    if not hierarchies.is_pure_v2(found):
        return tuple(hierarchy.own for hierarchy in found)
    return tuple(h.own if _delegate(Path(h.own)) else h.mountpoint for h in found)


def leaves(directories: Iterable[str]) -> list[str]:
    """Where a node's processes are put inside of the node's cgroup; nothing where it is that one itself."""
    if not hierarchies.is_pure_v2(here()):
        return []
    return [f"{directory}/{hierarchies.LEAF}" for directory in directories]


def _delegate(directory: Path) -> bool:
    """Hand every controller of a v2 directory to its children; whether that worked for all of them."""
    worked = True
    for controller in (directory / "cgroup.controllers").read_text().split():
        try:
            (directory / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            worked = False
    return worked


def make(directories: Iterable[str]) -> None:
    """Make the directories and those above them; each can take processes afterwards."""
    pure = hierarchies.is_pure_v2(here())
    for directory in directories:
        # Another cluster's end may remove the shared parent between two of our steps.
        if not until(lambda path=Path(directory): _make_one(path, pure=pure), seconds=_MAKE_SECONDS):  # type: ignore[misc]
            raise Unavailable(f"The cgroup {directory} cannot be made: its parent keeps vanishing.")


def _make_one(directory: Path, *, pure: bool) -> bool:
    try:
        for path in (directory.parent.parent, directory.parent, directory):
            path.mkdir(exist_ok=True)
            _copy_cpuset(path)
            if pure and path != directory:  # the node does that itself, when its pid 1 is out of the way
                _delegate(path)
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise
    return True


def _copy_cpuset(directory: Path) -> None:
    """A new v1 cpuset is empty and takes no process."""
    if not (directory / "tasks").exists():
        return
    for name in ("cpuset.cpus", "cpuset.mems"):
        setting = directory / name
        if setting.exists() and not setting.read_text().strip():
            setting.write_text((directory.parent / name).read_text())


def join(directories: Iterable[str]) -> None:
    """Move this process into the node's cgroups."""
    for directory in leaves(directories) or directories:
        Path(directory, "cgroup.procs").write_text("0")


def _freezer(directories: Iterable[str]) -> Path | None:
    """The directory that can freeze the node: v2 before v1."""
    paths = [Path(directory) for directory in directories]
    for name in ("cgroup.freeze", "freezer.state"):
        for path in paths:
            if (path / name).exists():
                return path
    return None


def is_frozen(directories: Iterable[str]) -> bool:
    """Whether the node stands still, or is about to."""
    path = _freezer(directories)
    if path is None:
        return False
    name = "cgroup.freeze" if (path / "cgroup.freeze").exists() else "freezer.self_freezing"
    try:
        return (path / name).read_text().strip() == "1"
    except OSError:
        return False  # the node has just been switched off


def _stands_still(path: Path) -> bool:
    if (path / "cgroup.events").exists():
        return "frozen 1" in (path / "cgroup.events").read_text()
    return (path / "freezer.state").read_text().strip() == "FROZEN"


def freeze(directories: Iterable[str], *, frozen: bool) -> None:
    """Freeze or thaw every process of the node, and wait until that is so."""
    path = _freezer(directories)
    if path is None:
        raise Unavailable("This machine has neither a v2 cgroup tree nor a freezer: nodes cannot be paused.")
    if (path / "cgroup.freeze").exists():
        (path / "cgroup.freeze").write_text("1" if frozen else "0")
    else:
        (path / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
    if not until(lambda: _stands_still(path) == frozen, seconds=_FREEZE_SECONDS):
        raise Unavailable(
            f"The processes in {path} did not {'stop' if frozen else 'go on'} in {_FREEZE_SECONDS} s."
        )


def processes(directories: Iterable[str]) -> list[int]:
    """The processes in the directories and below them, each once."""
    found: set[int] = set()
    for directory in directories:
        for path, _, _ in os.walk(directory):
            try:
                found.update(int(line) for line in Path(path, "cgroup.procs").read_text().split())
            except OSError:
                continue  # gone in between, or a threaded v2 group that lists nothing
    return sorted(found)


def kill(directories: Iterable[str]) -> None:
    """SIGKILL to everything in the node's cgroups: at once by v2, else one by one."""
    for directory in directories:
        switch = Path(directory, "cgroup.kill")
        if switch.exists():
            switch.write_text("1")
    for pid in processes(directories):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for directory in directories:
        state = Path(directory, "freezer.state")
        if state.exists():
            state.write_text("THAWED")  # a process frozen by v1 dies only when it goes on


def _remove_tree(directory: str) -> bool:
    for path, _, _ in os.walk(directory, topdown=False):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def remove(directories: Iterable[str]) -> None:
    """Remove the directories with all below them, and the cluster's when it is empty.

    The kernel frees a cgroup a moment after its last process: waits for that.
    """
    for directory in directories:
        if not until(lambda tree=directory: _remove_tree(tree), seconds=_REMOVE_SECONDS):  # type: ignore[misc]
            left = ", ".join(map(str, processes([directory]))) or "none"
            raise Unavailable(f"The cgroup {directory} cannot be removed; processes in it: {left}.")
        for parent in (os.path.dirname(directory), os.path.dirname(os.path.dirname(directory))):
            try:
                os.rmdir(parent)
            except OSError:
                break  # other nodes or clusters are in it
