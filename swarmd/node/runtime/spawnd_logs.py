"""The spawner's share of the logs: it holds every output pipe open and keeps the log pump alive.

While the read ends are held here a container never gets EPIPE, whatever happens to the pump.
"""

from __future__ import annotations

import os
import sys

from swarmd.node.runtime import rundir, wire
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
        self._ends: dict[str, list[int]] = {}
        self._client: Client | None = None
        self._pump_pid = 0
        self._quitting = False

    def open(self, name: str) -> list[int]:
        """The write ends for a new container, stdout and stderr; the caller closes them."""
        directory = rundir.directory(self._run_dir, name)
        for pipe in rundir.PIPES:
            os.mkfifo(f"{directory}/{pipe}", 0o600)
        self.reopen(name)
        return [os.open(f"{directory}/{pipe}", os.O_WRONLY | os.O_CLOEXEC) for pipe in rundir.PIPES]

    def reopen(self, name: str) -> None:
        """Hold the read ends, if the pipes exist (the pump removes them when they are drained)."""
        directory = rundir.directory(self._run_dir, name)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        with wire.ignoring(FileNotFoundError):
            self._ends[name] = [os.open(f"{directory}/{pipe}", flags) for pipe in rundir.PIPES]

    def announce(self, name: str) -> None:
        if self._client is not None:
            self._client.send(0, "open", name)

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

    def _lost(self) -> None:
        self._client = None
        self.ensure()

    def ensure(self) -> None:
        """Start a pump unless one is connected; look again until one is.

        A pump that finds another one alive ends at once; the other one connects by itself.
        """
        if self._client is not None or self._quitting:
            return
        if self._pump_pid and _ended(self._pump_pid):
            self._pump_pid = 0
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


def _ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True
