"""The spawner's share of exec: it clones a child into a running container and keeps it until it has ended.

Operation: ``exec`` id, container, cgroup directory, with the descriptors of the plan and, unless there is to
be a terminal, of stdin, stdout and stderr.  Its answer, when the program has been executed: the pid, a pidfd
and the terminal's master.  ``exec_into`` has the pid to enter before the descriptors: of a container that
another runtime made, we know the parent only.  ``exec_drop`` id: kill it if it has not been executed.
Event: ``exec_exited`` id, wait status.
"""

from __future__ import annotations

import _socket
import errno
import os
import select

from swarmd.node.runtime import child_exec, kernel, wire
from swarmd.node.runtime.core import linux
from swarmd.node.runtime.spawnd_state import Process, clone_in, reap

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from swarmd.node.runtime.spawnd_loop import Client, Loop
    from swarmd.node.runtime.spawnd_state import Container

_PF_EXITING = 4  # in the flags of /proc/PID/stat
_DIED = ("clone", "", errno.ESRCH, "the container ended before the program was executed")


class Execution(Process):
    """``executing`` once it said that it is about to become the program; ``terminal``: the master's side."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.executing = False
        self.terminal = -1

    def descriptors(self) -> list[int]:
        channel = [] if self.channel is None else [self.channel.fileno()]
        return [self.pidfd, *channel, *([self.terminal] if self.terminal >= 0 else [])]

    def frozen(self, place: Callable[[Client], int]) -> dict[str, Any]:
        values: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN}
        values["channel"] = -1 if self.channel is None else self.channel.fileno()
        values["waiting"] = None if self.waiting is None else (place(self.waiting[0]), self.waiting[1])
        return values


_PLAIN = ("name", "pid", "pidfd", "failure", "executing", "terminal")


def _thawed(values: dict[str, Any], clients: list[Client]) -> Execution:
    """What :meth:`Execution.frozen` froze, perhaps in another version of this program."""
    execution = Execution(values["name"])
    for name in _PLAIN:
        if name in values:
            setattr(execution, name, values[name])
    if values.get("channel", -1) >= 0:
        execution.channel = _socket.socket(fileno=values["channel"])
        execution.channel.setblocking(False)
    waiting = values.get("waiting")
    execution.waiting = None if waiting is None or waiting[0] < 0 else (clients[waiting[0]], waiting[1])
    return execution


class Execs:
    """Every method runs to its end without waiting."""

    def __init__(self, loop: Loop, containers: dict[str, Container]) -> None:
        self._loop = loop
        self._containers = containers
        self._executions: dict[str, Execution] = {}

    def pids(self) -> set[int]:
        return {execution.pid for execution in self._executions.values()}

    def do_exec(self, client: Client, number: int, name: str, target: str, cgroup: str, *fds: int) -> None:
        self._begin(client, number, name, target, cgroup, 0, fds)

    def do_exec_into(
        self, client: Client, number: int, name: str, target: str, cgroup: str, first: int, *fds: int
    ) -> None:
        self._begin(client, number, name, target, cgroup, first, fds)

    def _begin(
        self,
        client: Client,
        number: int,
        name: str,
        target: str,
        cgroup: str,
        first: int,
        fds: tuple[int, ...],
    ) -> None:
        container = self._containers.get(target)
        opened: list[int] = []
        try:
            if container is None or container.status != "running" or name in self._executions:
                client.send(number, "error", "clone", "", errno.ESRCH, f"container {target} is not running")
                return
            cgroup_fd = -1
            if cgroup:
                cgroup_fd = os.open(cgroup, linux.O_PATH | os.O_DIRECTORY)
                opened.append(cgroup_fd)
            execution = Execution(name)
            ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
            entered = container.pidfd
            if first:
                entered = _child_of(container.pid, first)
                opened.append(entered)
            place = (entered, first or container.pid)
            execution.pid, execution.pidfd = _clone(theirs.fileno(), place, cgroup_fd, fds)
        except OSError as error:
            reason = errno.ESRCH if container is not None and _is_over(container) else error.errno
            client.send(number, "error", "clone", "", reason or errno.EIO, str(error))
            return
        finally:
            for fd in opened:
                os.close(fd)
        theirs.close()
        ours.setblocking(False)
        execution.channel, execution.waiting = ours, (client, number)
        self._executions[name] = execution
        self._watch(execution)

    def state(self, place: Callable[[Client], int]) -> list[dict[str, Any]]:
        """For a successor; ``place`` tells clients apart by their place in its list."""
        return [execution.frozen(place) for execution in self._executions.values()]

    def descriptors(self) -> list[int]:
        return [fd for execution in self._executions.values() for fd in execution.descriptors()]

    def restore(self, state: list[dict[str, Any]], clients: list[Client]) -> None:
        for values in state:
            execution = _thawed(values, clients)
            self._executions[execution.name] = execution
            self._watch(execution)

    def _watch(self, execution: Execution) -> None:
        if execution.channel is not None:
            self._loop.watch(execution.channel.fileno(), select.EPOLLIN, lambda _: self._heard(execution))
        self._loop.watch(execution.pidfd, select.EPOLLIN, lambda _: self._ended(execution))

    def do_exec_drop(self, client: Client, number: int, name: str) -> None:
        """Nobody waits for it any more."""
        execution = self._executions.get(name)
        if execution is not None and execution.channel is not None:
            execution.waiting = None
            with wire.ignoring(OSError):
                kernel.pidfd_send_signal(execution.pidfd, linux.SIGKILL)
        client.send(number, "ok")

    def _heard(self, execution: Execution) -> None:
        """Its reports; end of file means that it became the program or was killed."""
        while execution.channel is not None:
            try:
                message, fds = wire.receive(execution.channel)
            except BlockingIOError:
                return
            except (OSError, EOFError, ValueError):
                self._loop.forget(execution.channel.fileno())
                execution.channel.close()
                execution.channel = None
                self._settle(execution)
                return
            if message[0] == "terminal":
                execution.terminal = fds[0]
            elif message[0] == "executing":
                execution.executing = True
            else:
                execution.failure = message[1:]

    def _settle(self, execution: Execution) -> None:
        terminal, execution.terminal = execution.terminal, -1
        fds = (execution.pidfd,) if terminal < 0 else (execution.pidfd, terminal)
        if execution.failure is not None:
            self._answer(execution, "error", *execution.failure)
        elif execution.executing:
            self._answer(execution, "ok", execution.pid, fds=fds)
        else:
            self._answer(execution, "error", *_DIED)
        if terminal >= 0:
            os.close(terminal)

    def _answer(self, execution: Execution, *values: Any, fds: tuple[int, ...] = ()) -> None:
        if execution.waiting is not None:
            client, number = execution.waiting
            execution.waiting = None
            client.send(number, *values, fds=fds)

    def _ended(self, execution: Execution) -> None:
        self._heard(execution)
        status = reap(execution)
        if status is None:
            return
        self._loop.forget(execution.pidfd)
        os.close(execution.pidfd)
        if execution.channel is not None:  # it has given it to somebody: nothing of it will be heard
            self._loop.forget(execution.channel.fileno())
            execution.channel.close()
            execution.channel = None
            self._settle(execution)
        del self._executions[execution.name]
        self._loop.broadcast(0, "exec_exited", execution.name, status)


def _clone(channel: int, place: tuple[int, int], cgroup: int, fds: tuple[int, ...]) -> tuple[int, int]:
    """(pid, pidfd) of the child; ``place``: a pidfd and the pid of the process whose namespaces it enters."""
    pid, pidfd = clone_in([place[0]], 0, cgroup)
    if pid == 0:
        child_exec.main(channel, fds[0], *place, fds[1:])
    return pid, pidfd


def _child_of(parent: int, pid: int) -> int:
    """A pidfd of ``pid``, which is what it is taken for only as a child of ``parent``."""
    pidfd = os.pidfd_open(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            if int(file.read().rsplit(b")", 1)[1].split()[1]) == parent:
                return pidfd
        raise ProcessLookupError(errno.ESRCH, "the container's first process is gone")
    except (OSError, IndexError):
        os.close(pidfd)
        raise


def _is_over(container: Container) -> bool:
    """Also while it waits for the others of its pid namespace to die; a clone gets ENOMEM then."""
    try:
        with open(f"/proc/{container.pid}/stat", "rb") as file:
            return bool(int(file.read().rpartition(b")")[2].split()[6]) & _PF_EXITING)
    except OSError:
        return True
