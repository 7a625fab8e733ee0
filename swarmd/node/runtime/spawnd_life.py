"""The lives of the spawner's containers: from the report of the child to the end its pidfd tells.

::

    creating ─ ready ─► created ─ go ─► starting ─ end of file ─► running ─► exited
        └──────────────────┴──────────────┴──── pidfd ───────────────────────►
"""

from __future__ import annotations

import errno
import os
import select
import sys

from swarmd.node.runtime import kernel, rundir, wire
from swarmd.node.runtime.core import linux
from swarmd.node.runtime.spawnd_state import (
    Container,
    became_program,
    exists,
    note,
    now,
    reap,
    reap_strangers,
)
from swarmd.node.runtime.which_process import boot_id

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from swarmd.node.runtime.spawnd_keep import Keep
    from swarmd.node.runtime.spawnd_logs import LogKeeper
    from swarmd.node.runtime.spawnd_loop import Loop

_ADOPTED_POLL = 0.05


class Lives:
    """All containers by id.  What is told to the daemon is on disk before."""

    def __init__(self, run_dir: str, loop: Loop, logs: LogKeeper, keep: Keep) -> None:
        self._run_dir = run_dir
        self._loop = loop
        self._logs = logs
        self._keep = keep
        self.boot = boot_id()
        self.containers: dict[str, Container] = {}
        self.others: Callable[[], set[int]] = set  # children that are no containers

    def descriptors(self) -> list[int]:
        return [fd for container in self.containers.values() for fd in container.descriptors()]

    def save(self, container: Container) -> None:
        rundir.save(self._run_dir, container.id, "run", note(container, self.boot))

    def drop(self, container: Container) -> None:
        """Its end is known elsewhere."""
        self.containers.pop(container.id, None)
        rundir.forget(self._run_dir, container.id)
        self._keep.release(container.id)

    def note(self, container: Container) -> None:
        """A full disk costs the note, not the container."""
        try:
            self.save(container)
        except OSError as error:
            _complain(container, error)

    def take(self, container: Container) -> None:
        self.containers[container.id] = container
        if container.channel is not None:
            self._loop.watch(container.channel.fileno(), select.EPOLLIN, lambda _: self._heard(container))
        if container.pidfd >= 0:
            self._loop.watch(container.pidfd, select.EPOLLIN, lambda _: self._ended(container))
            if container.status == "starting" and container.channel is None:
                self._watch_start(container)

    def _watch_start(self, container: Container) -> None:
        """It was told to start by a spawner that died: nobody else will say that it did."""
        if container.status != "starting":
            return
        if became_program(container):
            self._running(container)
        else:
            self._loop.later(_ADOPTED_POLL, lambda: self._watch_start(container))

    def kill(self, container: Container) -> None:
        # it ended by itself
        with wire.ignoring(OSError):
            kernel.pidfd_send_signal(container.pidfd, linux.SIGKILL)

    def _heard(self, container: Container) -> None:
        """The child reports; end of file means it became the program (or died, as its pidfd will tell)."""
        while container.channel is not None:
            try:
                self._reported(container, *wire.receive(container.channel))
                continue
            except BlockingIOError:
                return
            except (OSError, EOFError, ValueError):
                pass
            self._loop.forget(container.channel.fileno())
            container.channel.close()
            container.channel = None
            if container.status == "starting" and container.failure is None:
                self._running(container)

    def _reported(self, container: Container, message: tuple[Any, ...], fds: list[int]) -> None:
        if message[0] == "terminal":
            self._logs.hold_terminal(container.id, fds[0])
        elif message[0] == "moved":
            self._moved(container, message[1])
        elif message[0] == "ready":
            container.status = "created"
            self._answer(container, "ok", container.pid, fds=(container.pidfd,))
        else:
            container.failure, container.started = message[1:], 0.0

    def _moved(self, container: Container, pid: int) -> None:
        """It has cloned itself into a user namespace, as a child of ours, and leaves."""
        old = container.pidfd

        def left(_: int) -> None:
            self._loop.forget(old)
            with wire.ignoring(ChildProcessError):
                os.waitid(os.P_PIDFD, old, os.WEXITED | os.WNOHANG)
            os.close(old)

        self._loop.forget(old)
        self._loop.watch(old, select.EPOLLIN, left)
        container.pid, container.pidfd = pid, os.pidfd_open(pid)
        self._loop.watch(container.pidfd, select.EPOLLIN, lambda _: self._ended(container))
        self.note(container)
        self._keep.move(container.id, container.pidfd)

    def _running(self, container: Container) -> None:
        container.status = "running"
        self._answer(container, "ok", container.started)

    def _ended(self, container: Container) -> None:
        self._heard(container)
        reap_strangers({known.pid for known in self.containers.values()} | self.others())
        status = reap(container)
        if status is None and exists(container):
            if not container.ours:  # its new parent has not taken its status yet
                self._loop.forget(container.pidfd)
                self._loop.later(_ADOPTED_POLL, lambda: self._ended(container))
            return
        created = container.status != "creating"
        container.wait_status, container.finished, container.status = status, now(), "exited"
        self._loop.forget(container.pidfd)
        os.close(container.pidfd)
        container.pidfd = -1
        self._logs.ended(container.id)
        if created and not container.forgetting:
            end = (status, container.finished, container.failure)
            try:
                rundir.save(self._run_dir, container.id, "exit", end)
            except OSError as error:
                _complain(container, error)
            self._answer_end(container)
            self._loop.broadcast(0, "exited", container.row())
            return
        self.drop(container)
        self._logs.drop(container.id)
        self._answer_end(container)
        for client, number in container.forgetting:
            client.send(number, "ok")

    def _answer_end(self, container: Container) -> None:
        died = ("start", "", errno.ESRCH, "the container was killed before its program ran")
        self._answer(container, "error", *(container.failure or died))

    def _answer(self, container: Container, *values: Any, fds: tuple[int, ...] = ()) -> None:
        if container.waiting is not None:
            client, number = container.waiting
            container.waiting = None
            client.send(number, *values, fds=fds)


def _complain(container: Container, error: OSError) -> None:
    """Into spawnd.log; we go on with what is in memory."""
    sys.stderr.write(f"container {container.id}: its note cannot be written: {error}\n")
    sys.stderr.flush()
