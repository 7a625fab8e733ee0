"""Makes, limits, kills and removes the cgroups of containers: v1, hybrid and pure v2."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Collection

from swarmd.kit.clock import Clock
from swarmd.model.errors import Refused, Unavailable
from swarmd.node.runtime import freezing, gauges, kernfiles
from swarmd.node.runtime.core import cgroups
from swarmd.node.runtime.core.cgroups import Cgroups, ContainerGroups, Write
from swarmd.node.runtime.core.limit_checks import NodeFacts
from swarmd.node.runtime.core.limits import Change
from swarmd.node.runtime.device_gate import ORDINARY, DeviceGate, Rules

_NEEDED = ("memory", "cpu", "pids")
_USEFUL = ("io", "cpuset", "hugetlb", "rdma", "misc")
_REMOVE_PATIENCE = 10.0
_TRIES = 10
_OWNER = "user.swarmd.owner"


class CgroupDriver:
    """One per daemon.  Every method but :meth:`remove` is a few writes to a kernel file system."""

    def __init__(self, clock: Clock, *, owner: str = "") -> None:
        """``owner`` marks the groups made here, as other daemons of this machine may use the same parents."""
        self._clock = clock
        self._owner = owner.encode()
        self.layout: Cgroups = cgroups.discover(
            kernfiles.read("/proc/self/mountinfo"), kernfiles.read("/proc/self/cgroup")
        )
        self.facts = NodeFacts()
        self._gate = DeviceGate()

    def prepare(self, *, known: Collection[str] | None = None) -> None:
        """Make the parent directories and, on pure v2, hand the controllers down to them.

        What is left of containers that are not ``known`` goes (None: nothing).  Raises :class:`Unavailable`
        where this machine, or the container that is one, does not let us.
        """
        for parent in self.layout.parents():
            try:
                os.makedirs(f"{parent}/{cgroups.PARENT}", exist_ok=True)
                _inherit_cpuset(f"{parent}/{cgroups.PARENT}")
            except OSError as error:
                raise Unavailable(
                    f"cannot make the cgroup {parent}/{cgroups.PARENT}: {error.strerror}; swarmd needs "
                    "cgroups it can write to, also where it runs in a container itself"
                ) from error
        if self.layout.pure_v2:
            base = self.layout.v2
            _enable(base, leave=True)
            _enable(f"{base}/{cgroups.PARENT}", leave=False)
        if self.layout.v2:
            self._gate.check()
        self.facts = _facts(self.layout)
        if known is not None:
            self.collect(known=known)

    def create(self, groups: ContainerGroups, limits: tuple[Write, ...], rules: Rules = ORDINARY) -> None:
        """Before any process is in them, so that no limit comes late.  On error nothing is left."""
        made: list[str] = []
        try:
            for path in groups.paths():
                self.make(path)
                made.append(path)
            self._mark(made[0])
            for write in limits:
                self._apply(write)
            self._gate.close(groups, rules)
        except BaseException as error:
            for path in made:
                with contextlib.suppress(OSError):
                    os.rmdir(path)
            if isinstance(error, OSError):
                raise Unavailable(f"cannot make the container's cgroup: {error}") from error
            raise

    def make(self, path: str) -> None:
        """One directory that takes processes.  :class:`OSError` if it is there already, too; or it is not."""
        _make_directory(path)
        try:
            if path.startswith(f"{self.layout.v1.get('cpuset', '//')}/"):
                _inherit_cpuset(path)
        except OSError:
            os.rmdir(path)
            raise

    def _mark(self, path: str) -> None:
        with contextlib.suppress(OSError):  # without one, what a crash leaves is not collected
            os.setxattr(path, _OWNER, self._owner)

    def collect(self, *, known: Collection[str]) -> list[str]:
        """Remove what a daemon left that died while it made a container; answers the names.

        Only groups with our mark and without a process, which nobody will put one into any more.
        """
        parent = f"{self.layout.parents()[0]}/{cgroups.PARENT}"
        gone = []
        for name in sorted(set(os.listdir(parent)) - set(known)):
            groups = cgroups.place(self.layout, name)
            if self._is_ours(groups.paths()[0]) and not gauges.pids(groups):
                gone.append(name)
                for path in groups.paths():
                    _remove_tree(path)
        return gone

    def _is_ours(self, path: str) -> bool:
        try:
            return os.getxattr(path, _OWNER) == self._owner
        except OSError:  # no directory, or no mark
            return False

    def _apply(self, write: Write) -> None:
        try:
            kernfiles.write(write.path, write.value)
        except OSError as error:
            raise Refused(
                f"the limit {write.value!r} for {os.path.basename(write.path)} is not possible here: "
                f"{error.strerror}"
            ) from error

    def change(self, changes: tuple[Change, ...]) -> None:
        """All of them, or none: what was written is taken back when one is :class:`Refused`.

        Lowering a limit of memory may take the kernel seconds: call it off the event loop.
        """
        done: list[Change] = []
        try:
            for change in changes:
                self._apply(change.do)
                done.append(change)
        except Refused:
            self.revert(tuple(done))
            raise

    def revert(self, changes: tuple[Change, ...]) -> None:
        for change in reversed(changes):
            with contextlib.suppress(OSError):
                kernfiles.write(change.undo.path, change.undo.value)

    def procs_files(self, groups: ContainerGroups) -> tuple[str, ...]:
        """What the child must write itself into; in the v2 tree it is born.

        As the thread it is: a thread that moves itself does not take the kernel's lock on all process groups,
        for which one that moves a process waits until every processor has been elsewhere, 8 to 20 ms.
        """
        return tuple(f"{path}/tasks" for path in dict.fromkeys(groups.v1.values()))

    def kill(self, groups: ContainerGroups) -> None:
        """SIGKILL for every process in them, frozen or not."""
        if groups.v2:
            with contextlib.suppress(OSError):
                kernfiles.write(f"{groups.v2}/cgroup.kill", "1")
                return
        _kill_members(groups)
        freezing.thaw(groups)  # where they are frozen by v1, they die of it only now

    async def remove(self, groups: ContainerGroups) -> None:
        """Remove the directories, also those a container's own manager made below them."""
        end = self._clock.monotonic() + _REMOVE_PATIENCE
        pause = 0.002
        for path in groups.paths():
            while not _remove_tree(path):
                if self._clock.monotonic() > end:
                    raise Unavailable(f"cgroup {path} still has processes and cannot be removed")
                self.kill(groups)
                _kill_members(groups)  # somebody may have moved a process into one hierarchy only
                await self._clock.sleep(pause)
                pause = min(0.25, pause * 2)

    def tidy(self) -> None:
        """Remove the parent directories if no container of anybody is left in them."""
        if self.layout.pure_v2:
            return  # our own processes sit in a leaf beside them
        for parent in self.layout.parents():
            with contextlib.suppress(OSError):
                os.rmdir(f"{parent}/{cgroups.PARENT}")


def _make_directory(path: str) -> None:
    for _ in range(_TRIES - 1):
        with contextlib.suppress(FileNotFoundError):  # another daemon has just tidied the parent away
            os.makedirs(path)
            return
    os.makedirs(path)


def _kill_members(groups: ContainerGroups) -> None:
    for pid in {pid for path in groups.paths() for pid in gauges.members(path)} - {0}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _facts(layout: Cgroups) -> NodeFacts:
    """A group of ours has the files that a container's group will have."""
    files: set[str] = set()
    for parent in layout.parents():
        with contextlib.suppress(OSError):
            files.update(os.listdir(f"{parent}/{cgroups.PARENT}"))
    cpuset = f"{layout.v1.get('cpuset', layout.v2)}/{cgroups.PARENT}/cpuset"
    return NodeFacts(
        files=frozenset(name for name in files if "." in name and not name.startswith("cgroup.")),
        cpus=_first(f"{cpuset}.cpus.effective", f"{cpuset}.effective_cpus", f"{cpuset}.cpus"),
        mems=_first(f"{cpuset}.mems.effective", f"{cpuset}.effective_mems", f"{cpuset}.mems"),
    )


def _first(*paths: str) -> str:
    texts = (kernfiles.read(path).strip() for path in paths)
    return next((text for text in texts if text), "")


def _inherit_cpuset(directory: str) -> None:
    """A new cpuset of v1 is empty and takes no process; one of v2 has the file and needs no value."""
    if not os.path.exists(f"{directory}/cpuset.effective_cpus"):
        return
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not kernfiles.read(f"{directory}/{name}").strip():
            parent = os.path.dirname(directory)
            kernfiles.write(f"{directory}/{name}", kernfiles.read(f"{parent}/{name}").strip())


def _enable(directory: str, *, leave: bool) -> None:
    """Delegate the controllers to the children of ``directory``.

    A v2 group that does so may hold no process itself, so with ``leave`` those in it move to a leaf.
    """
    present = kernfiles.read(f"{directory}/cgroup.controllers").split()
    control = f"{directory}/cgroup.subtree_control"
    wanted = " ".join(f"+{name}" for name in _NEEDED if name in present)
    try:
        kernfiles.write(control, wanted)
    except OSError as error:
        if error.errno != errno.EBUSY or not leave:
            raise Unavailable(f"cannot delegate cgroup controllers in {directory}: {error}") from error
        leaf = f"{directory}/{cgroups.LEAF}"
        os.makedirs(leaf, exist_ok=True)
        for pid in kernfiles.read(f"{directory}/cgroup.procs").split():
            with contextlib.suppress(ProcessLookupError):
                kernfiles.write(f"{leaf}/cgroup.procs", pid)
        kernfiles.write(control, wanted)
    for name in _USEFUL:
        if name in present:
            with contextlib.suppress(OSError):
                kernfiles.write(control, f"+{name}")


def _remove_tree(path: str) -> bool:
    """False while a process is in it."""
    try:
        for root, _, _ in os.walk(path, topdown=False):
            os.rmdir(root)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
        return False
    return True
