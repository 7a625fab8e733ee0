"""The spawner: one small process per node that clones containers, is their parent and keeps their ends.

It is started by file path with ``python -I -S`` and outlives the daemon as long as a container runs.  It
never parses a config, never touches output, never blocks: a plan is executed by the cloned child
(``child.py``).  It must stay single threaded, because a raw clone copies only the calling thread.

Operations (see ``wire.py``): ``hello`` → version, pid; ``list`` after → rows; ``create`` id, cgroup, flags,
streams (empty, ``input`` or ``terminal``) with descriptors of the plan and, if it is not to be new, of the pid
namespace → pid and a pidfd; ``start`` id → time; ``ack`` id; ``forget`` id; ``logd``; ``quit``; those of
``spawnd_exec.py`` and ``spawnd_logs.py``.  Event: ``exited`` row.  A row is (id, status, pid, started, finished, wait status or None, failure or None).  ``started`` is
always answered before ``exited`` is told, and an end is on disk before it is told.
"""

from __future__ import annotations

import gc
import os
import sys

sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
)

import _socket
import errno
import fcntl
import select

from swarmd.node.runtime import child, kernel, rundir, wire
from swarmd.node.runtime.core import linux
from swarmd.node.runtime.spawnd_exec import Execs
from swarmd.node.runtime.spawnd_logs import LogKeeper
from swarmd.node.runtime.spawnd_loop import Client, Loop
from swarmd.node.runtime.spawnd_state import Container, clone_in, exists, now, reap, reap_strangers

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from typing import Any

_PLACEHOLDERS = 16
_ROWS = 100
_ADOPTED_POLL = 0.05


class Spawner:
    """All state; every method runs to its end without waiting."""

    def __init__(self, run_dir: str, loop: Loop, logs: LogKeeper) -> None:
        self._run_dir = run_dir
        self._loop = loop
        self._logs = logs
        self._boot = kernel.boot_id()
        self._containers: dict[str, Container] = {}
        self._execs = Execs(loop, self._containers)
        self.do_exec, self.do_exec_drop = self._execs.do_exec, self._execs.do_exec_drop
        self.do_terminal, self.do_input_end, self.do_keep = logs.do_terminal, logs.do_input_end, logs.do_keep

    def recover(self) -> None:
        """Take over what a spawner before us left."""
        for container_id in rundir.identifiers(self._run_dir):
            self._logs.reopen(container_id)
            run = rundir.load(self._run_dir, container_id, "run")
            if run is not None:
                self._adopt(container_id, *run)

    def _adopt(self, container_id: str, pid: int, start: str, boot: str, status: str, started: float) -> None:
        container = self._containers[container_id] = Container(container_id)
        container.pid, container.status, container.started, container.ours = pid, status, started, False
        end = rundir.load(self._run_dir, container_id, "exit")
        if end is None and boot == self._boot:
            with wire.ignoring(OSError):
                container.pidfd = os.pidfd_open(pid)
        if container.pidfd >= 0 and kernel.process_start(pid) == start:
            self._loop.watch(container.pidfd, select.EPOLLIN, lambda _: self._ended(container))
            return
        container.status = "exited"
        if end is not None:
            container.wait_status, container.finished, container.failure = end

    def handle(self, client: Client, message: tuple[Any, ...], fds: list[int]) -> None:
        """One request."""
        number, operation, *arguments = message
        method = getattr(self, f"do_{operation}", None)
        if method is None:
            client.send(number, "error", "request", "", errno.EINVAL, f"unknown operation {operation!r}")
            return
        try:
            method(client, number, *arguments, *fds)
        except OSError as error:
            client.send(number, "error", operation, "", error.errno or errno.EIO, str(error))
        except (TypeError, ValueError) as error:
            client.send(number, "error", operation, "", errno.EINVAL, str(error))

    def do_hello(self, client: Client, number: int) -> None:
        client.subscribed = True
        client.send(number, "ok", wire.VERSION, os.getpid())

    def do_list(self, client: Client, number: int, after: str) -> None:
        names = sorted(name for name in self._containers if name > after)[:_ROWS]
        client.send(number, "ok", [self._containers[name].row() for name in names])

    def do_create(
        self, client: Client, number: int, name: str, cgroup: str, flags: int, streams: str, *fds: int
    ) -> None:
        plan, *pid_space = fds
        if name in self._containers:
            for fd in fds:
                os.close(fd)
            client.send(number, "error", "create", "", errno.EEXIST, "a container with this id exists")
            return
        container = Container(name)
        opened = list(fds)
        try:
            stdio = self._logs.open(name, streams)
            opened += stdio
            cgroup_fd = -1
            if cgroup:
                cgroup_fd = os.open(cgroup, linux.O_PATH | os.O_DIRECTORY)
                opened.append(cgroup_fd)
            ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
            pid, container.pidfd = clone_in(pid_space, flags, cgroup_fd)
            if pid == 0:
                child.main(theirs.fileno(), plan, tuple(stdio))
        except OSError:
            self._logs.drop(name)
            raise
        finally:
            for fd in opened:
                os.close(fd)
        theirs.close()
        ours.setblocking(False)
        container.pid, container.channel, container.waiting = pid, ours, (client, number)
        self._containers[name] = container
        self._save(container)
        self._loop.watch(ours.fileno(), select.EPOLLIN, lambda _: self._heard(container))
        self._loop.watch(container.pidfd, select.EPOLLIN, lambda _: self._ended(container))
        self._logs.announce(name)

    def do_start(self, client: Client, number: int, name: str) -> None:
        container = self._containers.get(name)
        if container is None or container.status != "created" or container.channel is None:
            client.send(
                number, "error", "start", "", errno.EINVAL, "the container is not waiting to be started"
            )
            return
        container.status, container.waiting = "starting", (client, number)
        # it is gone; its end is told by the pidfd
        with wire.ignoring(OSError):
            container.channel.send(b"go")

    def do_ack(self, client: Client, number: int, name: str) -> None:
        container = self._containers.get(name)
        if container is not None and container.status == "exited":
            del self._containers[name]
            rundir.forget(self._run_dir, name)
        client.send(number, "ok")

    def do_forget(self, client: Client, number: int, name: str) -> None:
        """Kill it if it lives; answered when nothing of it is left here."""
        container = self._containers.get(name)
        if container is not None and container.status != "exited":
            container.forgetting.append((client, number))
            self._kill(container)
            return
        self._containers.pop(name, None)
        rundir.forget(self._run_dir, name)
        self._logs.drop(name)
        client.send(number, "ok")

    def do_logd(self, client: Client, number: int) -> None:
        self._logs.connected(client)

    def do_done(self, client: Client, number: int, name: str) -> None:
        """The log pump has drained and closed a container's output."""
        self._logs.drained(name)

    def do_quit(self, client: Client, number: int) -> None:
        self._logs.quit()
        self._loop.stop()
        client.send(number, "ok")

    def _kill(self, container: Container) -> None:
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
        elif message[0] == "ready":
            container.status = "created"
            self._save(container)
            self._answer(container, "ok", container.pid, fds=(container.pidfd,))
        else:
            container.failure = message[1:]

    def _running(self, container: Container) -> None:
        container.status, container.started = "running", now()
        self._save(container)
        self._answer(container, "ok", container.started)

    def _ended(self, container: Container) -> None:
        self._heard(container)
        reap_strangers({known.pid for known in self._containers.values()} | self._execs.pids())
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
        self._logs.ended(container.id)
        if created and not container.forgetting:
            end = (status, container.finished, container.failure)
            rundir.save(self._run_dir, container.id, "exit", end)
            self._answer_end(container)
            self._loop.broadcast(0, "exited", container.row())
            return
        self._containers.pop(container.id, None)
        rundir.forget(self._run_dir, container.id)
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

    def _save(self, container: Container) -> None:
        start = kernel.process_start(container.pid)
        values = (container.pid, start, self._boot, container.status, container.started)
        rundir.save(self._run_dir, container.id, "run", values)


def _reserve_descriptors(ready_fd: int) -> int:
    """Low numbers belong to the children: they put their own descriptors there and close all others.

    Answers where ``ready_fd`` went; whatever else was inherited is closed.
    """
    spare = fcntl.fcntl(ready_fd, fcntl.F_DUPFD_CLOEXEC, _PLACEHOLDERS + 1)
    os.dup2(spare, _PLACEHOLDERS, inheritable=False)
    kernel.close_range(_PLACEHOLDERS + 1)
    for number in range(child.SOCKET_FD, _PLACEHOLDERS):
        os.dup2(0, number, inheritable=False)
    return _PLACEHOLDERS


def main(run_dir: str, ready_fd: int) -> int:
    """Serve until told to quit.  Answers 3 if another spawner serves this run directory."""
    os.chdir("/")
    ready = _reserve_descriptors(ready_fd)
    lock = os.open(f"{run_dir}/{rundir.LOCK}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 3
    kernel.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    kernel.prctl(linux.PR_SET_DUMPABLE, 0)  # children enter containers: nobody there may look into them
    loop = Loop()
    logs = LogKeeper(run_dir, loop)
    spawner = Spawner(run_dir, loop, logs)
    spawner.recover()
    loop.serve(wire.listen(f"{run_dir}/{rundir.SOCKET}"), spawner.handle)
    logs.ensure()
    gc.disable()  # a collection would touch every page a child shares with us
    gc.freeze()
    os.close(ready)
    loop.run()
    os.unlink(f"{run_dir}/{rundir.SOCKET}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
