"""Keeps the ends of containers for the case that the daemon, the spawner and all are killed at once.

The kernel keeps an exit status for as long as a pidfd of the process is open, also after it was reaped.
A pidfd can be mounted, and a mount needs no process: each container's is mounted on a file of a mount
namespace that holds nothing else, which is pinned by a mount at ``keep`` in the run directory.  The
namespace is our own so that the mounts are not copied into every new container.

A kernel that cannot do that (before 6.14) keeps nothing: an end that nobody saw is then said to be lost.
"""

from __future__ import annotations

import os
import select

from swarmd.node.runtime import kernel, wire
from swarmd.node.runtime.core import linux

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from typing import NoReturn

    from swarmd.node.runtime.spawnd_loop import Loop

_SWEEP_PAUSE = 5.0


class Keep:
    """``name`` is a container's id; what fails here costs only what it is for."""

    def __init__(self, run_dir: str, loop: Loop) -> None:
        self._run_dir = run_dir
        self._loop = loop
        self._pin = f"{run_dir}/keep"
        self._own = self._kept = -1
        self._released: list[str] = []

    def prepare(self) -> None:
        """Find the namespace, or make it."""
        try:
            self._own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            self._kept = self._pinned()
            if self._kept < 0:
                self._make()
                self._kept = self._pinned()
        except OSError:
            self._kept = -1

    def _pinned(self) -> int:
        try:
            fd = os.open(self._pin, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1
        if os.fstat(fd).st_dev == os.fstat(self._own).st_dev:
            return fd
        os.close(fd)  # the bare file: the machine, or the mount namespace we were in, is another one
        return -1

    def _make(self) -> None:
        """By a child of ours, because a mount namespace is made with the caller in it."""
        self._unpin()
        os.close(os.open(self._pin, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        made, done = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        pid, pidfd = kernel.clone(linux.CLONE_NEWNS)
        if pid == 0:
            _empty_namespace(self._run_dir, made[1], done)
        os.close(pidfd)
        os.close(made[1])
        os.close(done[0])
        try:
            if os.read(made[0], 1) == b"+":
                kernel.mount(self._pin, self._pin, None, linux.MS_BIND)
                kernel.mount(None, self._pin, None, linux.MS_PRIVATE)
                kernel.mount(f"/proc/{pid}/ns/mnt", self._pin, None, linux.MS_BIND)
        finally:
            os.close(made[0])
            os.close(done[1])
            os.waitpid(pid, 0)

    def hold(self, name: str, pidfd: int) -> None:
        if self._kept < 0:
            return
        with wire.ignoring(OSError):
            tree = kernel.open_tree("", directory=pidfd)
            try:
                self._put(name, tree)
            finally:
                os.close(tree)

    def move(self, name: str, pidfd: int) -> None:
        """The container is another process now."""
        if self._kept < 0:
            return
        with wire.ignoring(OSError):
            self._enter()
            try:
                kernel.umount(f"/{name}", linux.MNT_DETACH)
            finally:
                self._leave()
        self.hold(name, pidfd)

    def _put(self, name: str, tree: int) -> None:
        self._enter()
        try:
            place = os.open(f"/{name}", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                kernel.move_mount(tree, place)
            finally:
                os.close(place)
        finally:
            self._leave()

    def find(self, name: str) -> int:
        """The pidfd of a process that may have ended long ago, -1 if it was not kept."""
        if self._kept < 0:
            return -1
        self._enter()
        try:
            fd = os.open(f"/{name}", os.O_RDWR | os.O_CLOEXEC)
            if os.fstat(fd).st_dev != os.stat("/").st_dev:
                return fd
            os.close(fd)
        except OSError:
            pass
        finally:
            self._leave()
        return -1

    def release(self, name: str) -> None:
        self._released.append(name)
        if self._kept >= 0 and len(self._released) == 1:
            self._loop.later(_SWEEP_PAUSE, self.sweep)

    def sweep(self) -> None:
        """By a child: to unmount waits for the other processors, for milliseconds each time."""
        released, self._released = self._released, []
        if self._kept < 0 or not released:
            return
        pid, pidfd = kernel.clone(0)
        if pid == 0:
            self._unmount(released)

        def swept(_: int) -> None:
            self._loop.forget(pidfd)
            with wire.ignoring(ChildProcessError):
                os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            os.close(pidfd)

        self._loop.watch(pidfd, select.EPOLLIN, swept)

    def _unmount(self, names: list[str]) -> NoReturn:
        try:
            self._enter()
            for name in names:
                with wire.ignoring(OSError):
                    kernel.umount(f"/{name}", linux.MNT_DETACH)
                with wire.ignoring(OSError):
                    os.unlink(f"/{name}")
        finally:
            os._exit(0)

    def end(self) -> None:
        """With the last mount of the pin the namespace goes, and all that is in it."""
        if self._kept >= 0:
            os.close(self._kept)
            self._kept = -1
        self._unpin()
        with wire.ignoring(OSError):
            os.unlink(self._pin)

    def _unpin(self) -> None:
        """All that is mounted there, one upon the other; an error says that there is nothing more."""
        with wire.ignoring(OSError):
            while True:
                kernel.umount(self._pin, linux.MNT_DETACH)

    def _enter(self) -> None:
        kernel.setns(self._kept, linux.CLONE_NEWNS)

    def _leave(self) -> None:
        """Entering a mount namespace also goes to its root directory, which is where we were."""
        try:
            kernel.setns(self._own, linux.CLONE_NEWNS)
        except OSError:
            os._exit(1)  # nothing can be done where no file is; the next spawner takes over


def _empty_namespace(place: str, made: int, done: tuple[int, int]) -> NoReturn:
    """The child: a file system in memory instead of all that is mounted; waits until it is pinned."""
    try:
        os.close(done[1])
        kernel.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
        kernel.mount("tmpfs", place, "tmpfs", 0, "mode=700,size=4m")
        os.chdir(place)
        kernel.pivot_root(".", ".")
        kernel.umount(".", linux.MNT_DETACH)
        os.write(made, b"+")
        os.read(done[0], 1)
    finally:
        os._exit(0)
