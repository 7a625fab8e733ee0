"""The cgroup of an exec'd program, and how to kill all that came of it.

It runs in the container's own group, as everything else there.  A group below it, without limits, is made
where its processes must be found again.  A container that hands out its controllers (it has a manager of its
own) holds no process itself on v2, so there a group below is the only place.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from swarmd.node.runtime import kernel
from swarmd.node.runtime.core import linux
from swarmd.node.runtime.core.cgroups import ContainerGroups

_ROUNDS = 20


class Group:
    """``path`` is the v2 directory to be born in, "" where there is no v2 tree."""

    def __init__(self, groups: ContainerGroups, name: str, *, own: bool) -> None:
        self._groups = groups
        self._own = ""
        self.path = groups.v2
        if self.path and (own or _text(f"{self.path}/cgroup.subtree_control")):
            self._own = self.path = f"{groups.v2}/exec-{name}"

    def make(self) -> None:
        if self._own:
            try:
                os.mkdir(self._own)
            except OSError:  # the container is ending, or may have no more groups: then in its own
                self._own, self.path = "", self._groups.v2

    def kill(self, pid: int, pidfd: int) -> None:
        """The program and its descendants; without a group of its own those that left its tree stay."""
        if self._own:
            with contextlib.suppress(OSError):
                Path(self._own, "cgroup.kill").write_text("1", encoding="ascii")
                return
        for _ in range(_ROUNDS):
            if not self._kill_tree(pid):
                break
        if pidfd >= 0:
            _kill(pidfd)

    def _kill_tree(self, pid: int) -> bool:
        """Kill what descends from ``pid`` or is in its session; whether there was any."""
        parents: dict[int, int] = {}
        found = {pid}
        for member in self._members():
            parents[member], session = _family(member)
            if session == pid:
                found.add(member)
        while more := {member for member, parent in parents.items() if parent in found} - found:
            found |= more
        killed = False
        for member in found & parents.keys():
            with contextlib.suppress(OSError):
                pidfd = os.pidfd_open(member)
                # what was read is about this process only if it still holds
                if member == pid or set(_family(member)) & found:
                    killed = _kill(pidfd) or killed
                os.close(pidfd)
        return killed

    def _members(self) -> list[int]:
        for path in self._groups.paths():
            if words := _text(f"{path}/cgroup.procs").split():
                return [int(word) for word in words]
        return []

    def remove(self) -> bool:
        """False while a process is left in it."""
        if self._own:
            try:
                os.rmdir(self._own)
            except FileNotFoundError:
                return True
            except OSError:
                return False
        return True


def _kill(pidfd: int) -> bool:
    try:
        kernel.pidfd_send_signal(pidfd, linux.SIGKILL)
    except OSError:
        return False
    return True


def _family(pid: int) -> tuple[int, int]:
    """Parent and session."""
    words = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(words[1]), int(words[3])) if len(words) > 3 and words[0] not in "ZX" else (0, 0)


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
