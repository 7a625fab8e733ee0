"""The log pump: one process per node that moves containers' output from pipes into rotated files.

It is started by the spawner, apart from it so that a flood of output delays no start, and it outlives it.
When it is killed the spawner starts another one, and what is in the pipes is not lost.

A container's directory has files 00000001.log, 00000002.log ...; the highest number is being written.
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
from swarmd.node.runtime.logd_live import Live, mark
from swarmd.node.runtime.spawnd_logs import hold_input

TYPE_CHECKING = False  # importing typing would cost the pump a megabyte
if TYPE_CHECKING:
    from typing import Any

_READ = 64 * 1024
_RECONNECT = 0.5
_LONELY = 3.0  # a new spawner starts a new pump


class LogFiles:
    """The files of one container: append, rotate, forget the oldest."""

    def __init__(self, directory: str, max_size: int, max_files: int) -> None:
        self._directory = directory
        self._max_size = max_size
        self._max_files = max(1, max_files)
        os.makedirs(directory, 0o700, exist_ok=True)
        numbers = logrecord.file_numbers(os.listdir(directory))
        self._number = numbers[-1] if numbers else 1
        self._fd = self._open()
        self._size = self._repair()

    def _open(self) -> int:
        path = f"{self._directory}/{logrecord.file_name(self._number)}"
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _repair(self) -> int:
        """Cut the torn record a killed pump may have left."""
        size = os.fstat(self._fd).st_size
        if size:
            intact = logrecord.intact(os.pread(self._fd, size, 0))
            if intact != size:
                os.ftruncate(self._fd, intact)
            size = intact
        return size

    def write(self, stream: int, data: bytes) -> None:
        """A full disk loses the record, not the container."""
        record = logrecord.encode(time.clock_gettime_ns(time.CLOCK_REALTIME), stream, data)
        try:
            if self._max_size and self._size and self._size + len(record) > self._max_size:
                self._rotate()
            self._size += os.write(self._fd, record)
        except OSError:
            self._size = self._repair()

    def _rotate(self) -> None:
        os.close(self._fd)
        self._number += 1
        self._fd = self._open()
        self._size = 0
        for number in logrecord.file_numbers(os.listdir(self._directory))[: -self._max_files]:
            os.unlink(f"{self._directory}/{logrecord.file_name(number)}")

    def place(self) -> tuple[int, int]:
        """The number of the file being written, and its size."""
        return self._number, self._size

    def close(self) -> None:
        os.close(self._fd)


class _Output:
    """Both streams of one container, or its terminal; ``input`` is held for it, nothing is written there."""

    def __init__(self, name: str, files: LogFiles) -> None:
        self.name = name
        self.files = files
        self.streams: dict[int, tuple[int, logrecord.Splitter]] = {}
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
        self._quitting = False
        self._live = Live(run_dir, self._poll, self._mark)
        self._alone_since = time.monotonic()

    def run(self) -> None:
        """Until everything is drained and we are told to quit, or nobody has needed us for a while."""
        while self._outputs or not self._unneeded():
            if self._spawner is None and not self._quitting:
                self._connect()
            for fd, _ in self._poll.poll(-1 if self._spawner or self._quitting else _RECONNECT):
                if self._spawner is not None and fd == self._spawner.fileno():
                    self._obey()
                elif fd in self._by_fd:
                    self._drain(fd)
                else:
                    self._live.happened(fd)

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
            self._open(message[2], fds)
        elif message[1] == "drop":
            self._drop(message[2])
        elif message[1] == "input_end" and message[2] in self._outputs:
            self._outputs[message[2]].end_input()
        elif message[1] == "quit":
            self._quitting = True

    def _open(self, name: str, terminal: list[int]) -> None:
        settings = rundir.load(self._run_dir, name, "log")
        fds = list(terminal)
        try:
            if name in self._outputs or settings is None:
                raise FileExistsError(name)
            if not fds:
                fds.extend(_pipes(rundir.directory(self._run_dir, name)))
            output = _Output(name, LogFiles(*settings))
        except OSError:  # known already, or removed meanwhile
            for fd in fds:
                os.close(fd)
            self._follow_input(name)
            return
        self._outputs[name] = output
        with wire.ignoring(OSError):
            output.input = hold_input(self._run_dir, name)
        for fd, stream in zip(fds, (logrecord.STDOUT, logrecord.STDERR), strict=False):
            os.set_blocking(fd, False)
            output.streams[fd] = (stream, logrecord.Splitter())
            self._by_fd[fd] = output
            self._poll.register(fd, select.EPOLLIN)
        for fd in fds:
            # A pipe whose writers were gone before we opened it never reports a hang-up: read to the end.
            while self._drain(fd):
                pass

    def _follow_input(self, name: str) -> None:
        """It may have been ended by a spawner that could not tell us."""
        output = self._outputs.get(name)
        if output is not None and not os.path.exists(
            f"{rundir.directory(self._run_dir, name)}/{rundir.INPUT}"
        ):
            output.end_input()

    def _drain(self, fd: int) -> bool:
        """Read once; False if there is nothing more now, or ever."""
        output = self._by_fd[fd]
        stream, splitter = output.streams[fd]
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return False
        except OSError:  # EIO: a terminal has been hung up
            data = b""
        ready = splitter.feed(data) if data else splitter.flush()
        if ready:
            output.files.write(stream, ready)
        if data:
            self._live.give(output.name, stream, data)
        else:
            self._close(output, fd)
            if not output.streams:
                self._finish(output)
        return bool(data)

    def _finish(self, output: _Output) -> None:
        output.files.write(logrecord.END, b"")
        output.files.close()
        output.end_input()
        del self._outputs[output.name]
        self._live.end(output.name)
        for pipe in (*rundir.PIPES, rundir.INPUT):
            with wire.ignoring(FileNotFoundError):
                os.unlink(f"{rundir.directory(self._run_dir, output.name)}/{pipe}")
        self._tell("done", output.name)

    def _drop(self, name: str) -> None:
        output = self._outputs.pop(name, None)
        if output is not None:
            for fd in list(output.streams):
                self._close(output, fd)
            output.files.close()
            output.end_input()
            self._live.end(name)

    def _mark(self, name: str) -> tuple[int, int, bytes, bytes] | None:
        output = self._outputs.get(name)
        if output is None:
            return None
        rests = {stream: splitter.rest for stream, splitter in output.streams.values()}
        return mark(*output.files.place(), rests)

    def _close(self, output: _Output, fd: int) -> None:
        self._poll.unregister(fd)
        del self._by_fd[fd], output.streams[fd]
        os.close(fd)

    def _tell(self, *message: Any, fds: tuple[int, ...] = ()) -> None:
        if self._spawner is not None:
            # a new spawner finds the pipes gone
            with wire.ignoring(OSError):
                wire.send(self._spawner, wire.encode(0, *message), fds)


def _pipes(directory: str) -> list[int]:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    fds: list[int] = []
    try:
        fds.extend(os.open(f"{directory}/{pipe}", flags) for pipe in rundir.PIPES)
    except OSError:
        for fd in fds:
            os.close(fd)
        raise
    return fds


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
