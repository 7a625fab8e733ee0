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

    def close(self) -> None:
        os.close(self._fd)


class _Output:
    """Both streams of one container."""

    def __init__(self, name: str, files: LogFiles) -> None:
        self.name = name
        self.files = files
        self.streams: dict[int, tuple[int, logrecord.Splitter]] = {}


class Pump:
    """Reads every pipe until all its writers are gone, then marks the end and removes the pipes."""

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self._poll = select.epoll()
        self._outputs: dict[str, _Output] = {}
        self._by_fd: dict[int, _Output] = {}
        self._spawner: _socket.socket | None = None
        self._quitting = False
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

    def _obey(self) -> None:
        assert self._spawner is not None
        try:
            message, _ = wire.receive(self._spawner)
        except (OSError, EOFError, ValueError):
            self._poll.unregister(self._spawner.fileno())
            self._spawner.close()
            self._spawner = None
            self._alone_since = time.monotonic()
            return
        if message[1] == "open":
            self._open(message[2])
        elif message[1] == "drop":
            self._drop(message[2])
        elif message[1] == "quit":
            self._quitting = True

    def _open(self, name: str) -> None:
        settings = rundir.load(self._run_dir, name, "log")
        if name in self._outputs or settings is None:
            return
        directory = rundir.directory(self._run_dir, name)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        fds: list[int] = []
        try:
            fds.extend(os.open(f"{directory}/{pipe}", flags) for pipe in rundir.PIPES)
            output = _Output(name, LogFiles(*settings))
        except OSError:  # removed meanwhile
            for fd in fds:
                os.close(fd)
            return
        self._outputs[name] = output
        for fd, stream in zip(fds, (logrecord.STDOUT, logrecord.STDERR), strict=True):
            output.streams[fd] = (stream, logrecord.Splitter())
            self._by_fd[fd] = output
            self._poll.register(fd, select.EPOLLIN)
        for fd in fds:
            # A pipe whose writers were gone before we opened it never reports a hang-up: read to the end.
            while self._drain(fd):
                pass

    def _drain(self, fd: int) -> bool:
        """Read once; False if there is nothing more now, or ever."""
        output = self._by_fd[fd]
        stream, splitter = output.streams[fd]
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return False
        ready = splitter.feed(data) if data else splitter.flush()
        if ready:
            output.files.write(stream, ready)
        if not data:
            self._close(output, fd)
            if not output.streams:
                self._finish(output)
        return bool(data)

    def _finish(self, output: _Output) -> None:
        output.files.write(logrecord.END, b"")
        output.files.close()
        del self._outputs[output.name]
        for pipe in rundir.PIPES:
            with wire.ignoring(FileNotFoundError):
                os.unlink(f"{rundir.directory(self._run_dir, output.name)}/{pipe}")
        self._tell("done", output.name)

    def _drop(self, name: str) -> None:
        output = self._outputs.pop(name, None)
        if output is not None:
            for fd in list(output.streams):
                self._close(output, fd)
            output.files.close()

    def _close(self, output: _Output, fd: int) -> None:
        self._poll.unregister(fd)
        del self._by_fd[fd], output.streams[fd]
        os.close(fd)

    def _tell(self, *message: Any) -> None:
        if self._spawner is not None:
            # a new spawner finds the pipes gone
            with wire.ignoring(OSError):
                wire.send(self._spawner, wire.encode(0, *message))


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
