"""A container and its process as the spawner sees them, and what the kernel says about an end."""

from __future__ import annotations

import os
import time

from swarmd.node.runtime import kernel
from swarmd.node.runtime.core import linux

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    import _socket
    from typing import Any

    from swarmd.node.runtime.spawnd_loop import Client


class Process:
    """A cloned child and the line to it; ``ours`` if we are its parent."""

    def __init__(self) -> None:
        self.pid = 0
        self.pidfd = -1
        self.channel: _socket.socket | None = None
        self.failure: tuple[Any, ...] | None = None
        self.ours = True
        self.waiting: tuple[Client, int] | None = None  # whoever asked for what goes on now


class Container(Process):
    """``status``: creating, created, starting, running, exited."""

    def __init__(self, container_id: str) -> None:
        super().__init__()
        self.id = container_id
        self.status = "creating"
        self.started = 0.0
        self.finished = 0.0
        self.wait_status: int | None = None
        self.forgetting: list[tuple[Client, int]] = []

    def row(self) -> tuple[Any, ...]:
        return (self.id, self.status, self.pid, self.started, self.finished, self.wait_status, self.failure)


def clone_in(pid_space: list[int], flags: int, cgroup_fd: int) -> tuple[int, int]:
    """Clone; a pid namespace (its descriptor, or a pidfd of who is in it) is entered by the children of
    whoever chose it, so we choose for a moment."""
    if not pid_space:
        return kernel.clone(flags, cgroup_fd)
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    pid = -1
    try:
        kernel.setns(pid_space[0], linux.CLONE_NEWPID)
        pid, pidfd = kernel.clone(flags, cgroup_fd)
    finally:
        if pid:
            _come_back(home)
    return pid, pidfd


def _come_back(home: int) -> None:
    try:
        kernel.setns(home, linux.CLONE_NEWPID)
    except OSError:
        os._exit(1)  # every further container would be born there; the next spawner takes over
    os.close(home)


def reap(process: Process) -> int | None:
    """The wait status, None if there is none (yet)."""
    if not process.ours:
        return kernel.pidfd_exit_status(process.pidfd)
    try:
        end = os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return kernel.pidfd_exit_status(process.pidfd)
    if end is None:
        return None
    return end.si_status << 8 if end.si_code == os.CLD_EXITED else end.si_status


def exists(process: Process) -> bool:
    try:
        kernel.pidfd_send_signal(process.pidfd, 0)
    except ProcessLookupError:
        return False
    return True


def now() -> float:
    return time.clock_gettime(time.CLOCK_REALTIME)


def reap_strangers(known: set[int]) -> None:
    """As a subreaper we inherit orphans; nobody else takes their status."""
    while True:
        try:
            end = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if end is None or end.si_pid in known:
            return
        os.waitpid(end.si_pid, os.WNOHANG)
