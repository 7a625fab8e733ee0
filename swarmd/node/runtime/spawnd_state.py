"""A container and its process as the spawner sees them, and what the kernel says about an end."""

from __future__ import annotations

import _socket
import os
import time

from swarmd.node.runtime import kernel, rundir
from swarmd.node.runtime.core import linux
from swarmd.node.runtime.which_process import process_start

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from swarmd.node.runtime.spawnd_keep import Keep
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
        self.start = ""  # of the process, in clock ticks since boot
        self.image: tuple[int, ...] = ()  # what the child runs until it is the program
        self.forgetting: list[tuple[Client, int]] = []

    def row(self) -> tuple[Any, ...]:
        return (self.id, self.status, self.pid, self.started, self.finished, self.wait_status, self.failure)

    def descriptors(self) -> list[int]:
        channel = [] if self.channel is None else [self.channel.fileno()]
        return channel if self.pidfd < 0 else [self.pidfd, *channel]

    def frozen(self, place: Callable[[Client], int]) -> dict[str, Any]:
        """For a successor; ``place`` tells clients apart by their place in its list."""
        values: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN}
        values["channel"] = -1 if self.channel is None else self.channel.fileno()
        values["waiting"] = None if self.waiting is None else (place(self.waiting[0]), self.waiting[1])
        values["forgetting"] = [(place(client), number) for client, number in self.forgetting]
        return values


_PLAIN = (
    "id",
    "status",
    "pid",
    "pidfd",
    "started",
    "finished",
    "wait_status",
    "failure",
    "ours",
    "start",
    "image",
)


def thawed(values: dict[str, Any], clients: list[Client]) -> Container:
    """What :meth:`Container.frozen` froze, perhaps in another version of this program."""
    container = Container(values["id"])
    for name in _PLAIN:
        if name in values:
            setattr(container, name, values[name])
    if values.get("channel", -1) >= 0:
        container.channel = _socket.socket(fileno=values["channel"])
        container.channel.setblocking(False)
    waiting = values.get("waiting")
    container.waiting = None if waiting is None or waiting[0] < 0 else (clients[waiting[0]], waiting[1])
    asked = [entry for entry in values.get("forgetting", ()) if entry[0] >= 0]
    container.forgetting = [(clients[place], number) for place, number in asked]
    return container


def note(container: Container, boot: str) -> tuple[Any, ...]:
    """What :func:`adopted` needs should we die.

    It is written twice: of a child that makes itself ready, which does not outlive us, and of one that was
    told to start, of which the image it runs says whether it did.
    """
    if not container.start:
        container.start, container.image = process_start(container.pid), _image("self")
    status = "created" if container.status == "creating" else container.status
    identity = (os.fstat(container.pidfd).st_ino, *container.image)
    return (container.pid, container.start, boot, status, container.started, identity)


def adopted(run_dir: str, container_id: str, boot: str, keep: Keep) -> Container | None:
    """A container of a spawner that died, from its notes; "exited" if its process is gone."""
    run = rundir.load(run_dir, container_id, "run")
    if run is None:
        return None
    container = Container(container_id)
    container.pid, container.start, born, container.status, container.started = run[:5]
    container.ours = False
    identity = run[5] if len(run) > 5 else ()
    container.image = identity[1:]
    end = rundir.load(run_dir, container_id, "exit")
    if end is not None:
        container.wait_status, container.finished, container.failure = end
    elif born == boot:
        container.pidfd = keep.find(container_id)
        if container.pidfd < 0:
            container.pidfd = _reopened(container.pid, container.start, identity[:1])
    if container.pidfd < 0:
        container.status = "exited"
    return container


def _reopened(pid: int, start: str, inode: tuple[int, ...]) -> int:
    """A pidfd of ``pid`` unless that is another process by now, else -1.

    Since Linux 6.9 the inode of a pidfd is never used twice; before, it is the same for all of them.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return -1
    if process_start(pid) == start and os.fstat(pidfd).st_ino in (inode or (os.fstat(pidfd).st_ino,)):
        return pidfd
    os.close(pidfd)
    return -1


def _image(pid: int | str) -> tuple[int, int]:
    """The file a process runs; zeros if it is gone."""
    try:
        found = os.stat(f"/proc/{pid}/exe")
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def became_program(container: Container) -> bool:
    """Whether a child that was told to start does not run the spawner's interpreter any more."""
    return _image(container.pid) not in ((0, 0), container.image)


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
