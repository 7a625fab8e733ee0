"""The log pump: one process per node that moves containers' output from pipes into rotated files.

It is started by the spawner, apart from it so that a flood of output delays no start, and it outlives it.
When it is killed the spawner starts another one, and what is in the pipes is not lost.

What the disk does not take is made up for later (``logfiles.py``).
"""

from __future__ import annotations

import os
import sys

sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
)

import _socket
import fcntl
import select
import time

from swarmd.node.runtime import rundir, wire
from swarmd.node.runtime.core import logrecord
from swarmd.node.runtime.logd_budget import Budget
from swarmd.node.runtime.logd_live import Live, mark
from swarmd.node.runtime.logd_source import PipeSource, Scratch, Source, close_all, open_pipes
from swarmd.node.runtime.logfiles import LogFiles
from swarmd.node.runtime.spawnd_logs import hold_input

TYPE_CHECKING = False  # importing typing would cost the pump a megabyte
if TYPE_CHECKING:
    from typing import Any

_RECONNECT = 0.5
_LONELY = 3.0  # a new spawner starts a new pump
_SETTLE = 1.0
# Only what is new wakes us: the beginning of a line stays in its pipe.
_NEWS = select.EPOLLIN | select.EPOLLET


class _Output:
    """Both streams of one container, or its terminal; ``input`` is held for it, nothing is written there."""

    def __init__(self, name: str, files: LogFiles) -> None:
        self.name = name
        self.files = files
        self.streams: dict[int, Source] = {}
        self.input = -1

    def end_input(self) -> None:
        if self.input >= 0:
            os.close(self.input)
            self.input = -1


class Pump:
    """Reads every pipe until all its writers are gone, then marks the end and removes the pipes."""

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self._poll = select.epoll()
        self._outputs: dict[str, _Output] = {}
        self._by_fd: dict[int, _Output] = {}
        self._spawner: _socket.socket | None = None
        self._quitting = self._left = False
        self._live = Live(run_dir, self._poll, self._mark)
        self._scratch = Scratch()
        self._budget = Budget()
        self._ready: dict[int, None] = {}  # what may have more to read, in turn
        self._owing: set[_Output] = set()
        self._late: dict[str, list[int]] = {}
        self._settled = 0.0
        self._alone_since = time.monotonic()

    def run(self) -> None:
        """Until everything is drained and we are told to quit, or nobody has needed us for a while.

        Told to leave, for the pump of another version, at once: nothing is in our memory only.
        """
        while not self._left and (self._outputs or not self._unneeded()):
            if self._spawner is None and not self._quitting:
                self._connect()
            for fd, events in self._poll.poll(self._patience()):
                if self._spawner is not None and fd == self._spawner.fileno():
                    self._obey()
                elif fd in self._by_fd:
                    self._by_fd[fd].streams[fd].hung_up |= bool(events & select.EPOLLHUP)
                    self._ready[fd] = None
                else:
                    self._live.happened(fd)
            self._drain()
            if self._owing or self._late:
                self._settle()

    def _patience(self) -> float:
        """Seconds until something is due, -1 if nothing is."""
        now = time.monotonic()
        waits = [_RECONNECT] if self._spawner is None and not self._quitting else []
        if self._owing or self._late:
            waits.append(_SETTLE)
        if self._ready:
            rests = all(self._budget.is_spent(self._by_fd[fd].name, now) for fd in self._ready)
            waits.append(self._budget.until_next(now) if rests else 0.0)
        return min(waits, default=-1)

    def _settle(self) -> None:
        """What a disk did not take is tried again, once a second."""
        now = time.monotonic()
        if now < self._settled + _SETTLE:
            return
        self._settled = now
        late, self._late = self._late, {}
        for name, terminal in late.items():
            self._open(name, terminal)
        for output in [output for output in self._owing if output.files.settled()]:
            self._owing.discard(output)
            if not output.streams:
                self._conclude(output)

    def _unneeded(self) -> bool:
        alone = self._spawner is None and time.monotonic() > self._alone_since + _LONELY
        return self._quitting or alone

    def _connect(self) -> None:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            connection.connect(f"{self._run_dir}/{rundir.SOCKET}")
            wire.send(connection, wire.encode(0, "logd"))
        except OSError:
            connection.close()
            return
        self._spawner = connection
        self._poll.register(connection.fileno(), select.EPOLLIN)
        for output in self._outputs.values():
            for fd in output.streams:
                if os.isatty(fd):
                    self._tell("keep", output.name, fds=(fd,))

    def _obey(self) -> None:
        assert self._spawner is not None
        try:
            message, fds = wire.receive(self._spawner)
        except (OSError, EOFError, ValueError):
            self._poll.unregister(self._spawner.fileno())
            self._spawner.close()
            self._spawner = None
            self._alone_since = time.monotonic()
            return
        if message[1] == "open":
            terminal, held = (fds, []) if len(fds) == 1 else ([], fds)
            self._open(message[2], terminal)
            close_all(held)
        elif message[1] == "drop":
            self._drop(message[2])
        elif message[1] == "input_end" and message[2] in self._outputs:
            self._outputs[message[2]].end_input()
        elif message[1] == "quit":
            self._quitting = True
        elif message[1] == "leave":
            self._left = True

    def _open(self, name: str, terminal: list[int]) -> None:
        settings = rundir.load(self._run_dir, name, "log")
        fds = list(terminal)
        try:
            if name in self._outputs or settings is None:
                raise FileExistsError(name)
            if not fds:
                fds.extend(open_pipes(self._run_dir, name))
        except OSError:  # known already, or removed meanwhile
            close_all(fds)
            self._follow_input(name)
            return
        try:
            output = _Output(name, LogFiles(*settings))
        except FileNotFoundError:
            close_all(fds)
            return
        except OSError:  # there is no room for it: the container waits at its full pipe
            close_all(fds[len(terminal) :])
            self._late[name] = terminal
            return
        self._outputs[name] = output
        with wire.ignoring(OSError):
            output.input = hold_input(self._run_dir, name)
        for fd, stream in zip(fds, (logrecord.STDOUT, logrecord.STDERR), strict=False):
            os.set_blocking(fd, False)
            output.streams[fd] = Source(fd, stream) if terminal else PipeSource(fd, stream, self._scratch)
            self._by_fd[fd] = output
            self._poll.register(fd, _NEWS)
        # Whoever was told of a line that goes on, by a pump that has died, must not be told of it again.
        for source in list(output.streams.values()):
            self._read(output, source, time.monotonic())

    def _follow_input(self, name: str) -> None:
        """It may have been ended by a spawner that could not tell us."""
        output = self._outputs.get(name)
        if output is not None and not os.path.exists(
            f"{rundir.directory(self._run_dir, name)}/{rundir.INPUT}"
        ):
            output.end_input()

    def _drain(self) -> None:
        """Everybody once, who has something and has not had its share."""
        now = time.monotonic()
        for fd in list(self._ready):
            output = self._by_fd.get(fd)
            if output is None:
                continue
            if not self._budget.is_spent(output.name, now) and not self._read(
                output, output.streams[fd], now
            ):
                self._ready.pop(fd, None)

    def _read(self, output: _Output, source: Source, now: float) -> bool:
        """Once; False if there is nothing more now, or ever."""
        new = source.read()
        if new is None:
            return False
        if source.ready:
            output.files.write(source.stream, source.ready)
            if output.files.owes:
                self._owing.add(output)
        source.written()
        self._budget.spend(output.name, len(new), now)
        if new:
            self._live.give(output.name, source.stream, new)
        elif not source.rest:
            self._close(output, source.fd)
            if not output.streams:
                self._finish(output)
            return False
        return True

    def _finish(self, output: _Output) -> None:
        output.files.write(logrecord.END, b"")
        if output.files.owes:
            self._owing.add(output)
        else:
            self._conclude(output)

    def _conclude(self, output: _Output) -> None:
        """All that could be written is: the pipes may go."""
        output.files.close()
        output.end_input()
        del self._outputs[output.name]
        self._live.end(output.name)
        for pipe in (*rundir.PIPES, rundir.INPUT):
            with wire.ignoring(FileNotFoundError):
                os.unlink(f"{rundir.directory(self._run_dir, output.name)}/{pipe}")
        self._tell("done", output.name)

    def _drop(self, name: str) -> None:
        close_all(self._late.pop(name, []))
        output = self._outputs.pop(name, None)
        if output is not None:
            self._owing.discard(output)
            for fd in list(output.streams):
                self._close(output, fd)
            output.files.close()
            output.end_input()
            self._live.end(name)

    def _mark(self, name: str) -> tuple[int, int, bytes, bytes] | None:
        output = self._outputs.get(name)
        if output is None:
            return None
        rests = {source.stream: source.rest for source in output.streams.values()}
        return mark(*output.files.place(), rests)

    def _close(self, output: _Output, fd: int) -> None:
        self._poll.unregister(fd)
        del self._by_fd[fd], output.streams[fd]
        self._ready.pop(fd, None)
        os.close(fd)

    def _tell(self, *message: Any, fds: tuple[int, ...] = ()) -> None:
        if self._spawner is not None:
            # a new spawner finds the pipes gone
            with wire.ignoring(OSError):
                wire.send(self._spawner, wire.encode(0, *message), fds)


def main(run_dir: str) -> int:
    """Pump until told to quit.  Answers 0 at once if another pump serves this run directory."""
    lock = os.open(f"{run_dir}/{rundir.LOG_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    Pump(run_dir).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
