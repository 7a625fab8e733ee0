"""The spawner's share of the streams: it holds the ends of every container and keeps the log pump alive.

While the read ends are held here a container never gets EPIPE, whatever happens to the pump; while the write
end of its input is, it does not read end of file.  Of a terminal both sides are held: a container that closes
its own for a while is not hung up.  The pump holds an input and a master too, so that they outlive us.

Operations: ``terminal`` id → the master; ``input_end`` id: the input reads end of file.  The pump's: ``keep``
id with a master that it has and we, who came later, have not.
"""

from __future__ import annotations

import errno
import os
import sys

from swarmd.node.runtime import rundir, terminals, wire
from swarmd.node.runtime.core import linux

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from swarmd.node.runtime.spawnd_loop import Client, Loop

_RETRY = 1.0


class LogKeeper:
    def __init__(self, run_dir: str, loop: Loop) -> None:
        self._run_dir = run_dir
        self._loop = loop
        self._ends: dict[str, list[int]] = {}  # out, err, perhaps input; or the two sides of a terminal
        self._client: Client | None = None
        self._pump_pid = 0
        self._quitting = False

    def open(self, name: str, streams: str) -> list[int]:
        """The standard streams for a new container, of which the caller closes those that are not 0."""
        if streams == "terminal":  # it opens one for itself
            return []
        directory = rundir.directory(self._run_dir, name)
        for pipe in rundir.PIPES:
            os.mkfifo(f"{directory}/{pipe}", 0o600)
        self.reopen(name)
        stdin = self._open_input(name) if streams == "input" else os.dup(0)
        try:
            return [stdin, *rundir.open_pipes(self._run_dir, name, os.O_WRONLY | os.O_CLOEXEC)]
        except OSError:
            os.close(stdin)
            raise

    def _open_input(self, name: str) -> int:
        path = f"{rundir.directory(self._run_dir, name)}/{rundir.INPUT}"
        os.mkfifo(path, 0o600)
        both = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # so that neither side waits for the other
        try:
            reading = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._hold_input(name)
        finally:
            os.close(both)
        return reading

    def _hold_input(self, name: str) -> None:
        """Unless there is none, or it was ended, or nobody will ever read it."""
        with wire.ignoring(OSError):
            self._ends[name].append(hold_input(self._run_dir, name))

    def reopen(self, name: str) -> None:
        """Hold the read ends, if the pipes exist (the pump removes them when they are drained)."""
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        with wire.ignoring(FileNotFoundError):
            self._ends[name] = rundir.open_pipes(self._run_dir, name, flags)
            self._hold_input(name)

    def hold_terminal(self, name: str, master: int) -> None:
        if name in self._ends:
            os.close(master)
            return
        self._ends[name] = [master, terminals.peer(master)]
        self.announce(name)

    def announce(self, name: str) -> None:
        ends = self._ends.get(name)
        if self._client is not None and ends is not None:
            # A pipe that nobody has open forgets what is in it: its ends are on their way while we may die.
            self._client.send(0, "open", name, fds=tuple(ends[: 1 if os.isatty(ends[0]) else 2]))

    def ended(self, name: str) -> None:
        """The container has: its terminal is hung up, and nobody can write to it any more."""
        ends = self._ends.get(name, [])
        last = 1 if ends and os.isatty(ends[0]) else 2
        for fd in ends[last:]:
            os.close(fd)
        del ends[last:]

    def do_terminal(self, client: Client, number: int, name: str) -> None:
        ends = self._ends.get(name, [-1])
        if not os.isatty(ends[0]):
            client.send(number, "error", "terminal", "", errno.ESRCH, f"container {name} has no terminal now")
        else:
            client.send(number, "ok", fds=(ends[0],))

    def do_input_end(self, client: Client, number: int, name: str) -> None:
        with wire.ignoring(FileNotFoundError):
            os.unlink(f"{rundir.directory(self._run_dir, name)}/{rundir.INPUT}")
        ends = self._ends.get(name, [-1])
        if not os.isatty(ends[0]):
            self.ended(name)
            if self._client is not None:
                self._client.send(0, "input_end", name)
        client.send(number, "ok")

    def do_keep(self, client: Client, number: int, name: str, master: int) -> None:
        self.hold_terminal(name, os.dup(master))

    def drained(self, name: str) -> None:
        for fd in self._ends.pop(name, ()):
            os.close(fd)

    def drop(self, name: str) -> None:
        if name in self._ends and self._client is not None:
            self._client.send(0, "drop", name)
        self.drained(name)

    def connected(self, client: Client) -> None:
        """The pump is here: tell it of everything that is not drained."""
        self._client = client
        client.closed = self._lost
        for name in self._ends:
            self.announce(name)

    def state(self, place: Callable[[Client], int]) -> dict[str, Any]:
        """For a successor."""
        pump = -1 if self._client is None else place(self._client)
        return {"ends": self._ends, "pump": pump, "pid": self._pump_pid}

    def descriptors(self) -> list[int]:
        return [fd for ends in self._ends.values() for fd in ends]

    def restore(self, state: dict[str, Any], clients: list[Client]) -> None:
        self._ends, self._pump_pid = state["ends"], state["pid"]
        if state["pump"] >= 0:
            self._client = clients[state["pump"]]
            self._client.closed = self._lost
            self._client.send(0, "leave")  # a pump of our version comes

    def _lost(self) -> None:
        self._client = None
        self.ensure()

    def ensure(self) -> None:
        """Start a pump unless one is connected; look again until one is.

        A pump that finds another one alive ends at once; the other one connects by itself.
        """
        if self._pump_pid and _ended(self._pump_pid):
            self._pump_pid = 0
        if self._client is not None or self._quitting:
            return
        if not self._pump_pid:
            pump = os.path.join(os.path.dirname(os.path.abspath(__file__)), "logd.py")
            arguments = [sys.executable, "-I", "-S", pump, self._run_dir]
            self._pump_pid = os.posix_spawn(sys.executable, arguments, {"LC_ALL": "C.UTF-8"}, setsid=True)
        self._loop.later(_RETRY, self.ensure)

    def quit(self) -> None:
        self._quitting = True
        if self._client is not None:
            self._client.send(0, "quit")
        elif self._pump_pid and not _ended(self._pump_pid):  # it has not come to us yet
            os.kill(self._pump_pid, linux.SIGKILL)


def hold_input(run_dir: str, name: str) -> int:
    """The write end of a container's input; :class:`OSError` if it has none, or nobody reads it."""
    path = f"{rundir.directory(run_dir, name)}/{rundir.INPUT}"
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True
