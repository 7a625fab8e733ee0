"""One stream of a container as the log pump reads it, so that a killed pump has nothing in its memory.

A pipe is looked into (tee) and what was seen is written to the log; only then the pipe forgets it, and a line
that goes on stays in it.  A pump that is killed in between leaves whole lines to be written twice, at most
those of one reading; it loses none.  A terminal cannot be looked into: what is read of it is written at once.

    new = source.read() → write source.ready → source.written()
"""

from __future__ import annotations

import os

from swarmd.node.runtime import kernel, rundir
from swarmd.node.runtime.core import logrecord

_READ = 64 * 1024


class Scratch:
    """A pipe that what is seen goes through, and where the rest ends: one for all sources."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.nowhere = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)


class Source:
    """``rest`` is the beginning of a line that goes on; ``ready`` may be written now."""

    def __init__(self, fd: int, stream: int) -> None:
        self.fd = fd
        self.stream = stream
        self.rest = b""
        self.ready = b""
        self.hung_up = False

    def read(self) -> bytes | None:
        """What is new, empty at the end (``ready`` then has the rest), None if there is nothing now."""
        try:
            new = os.read(self.fd, _READ)
        except BlockingIOError:
            return None
        except OSError:  # EIO: a terminal has been hung up
            new = b""
        self.ready = new  # at once, lines or not: what we held back would die with us
        return new

    def written(self) -> None:
        """What was ready is in the log, or has been counted as lost."""
        self.ready = b""


class PipeSource(Source):
    def __init__(self, fd: int, stream: int, scratch: Scratch) -> None:
        super().__init__(fd, stream)
        self._scratch = scratch

    def read(self) -> bytes | None:
        try:
            size = kernel.tee(self.fd, self._scratch.writing, _READ)
        except BlockingIOError:
            return None
        data = os.read(self._scratch.reading, size) if size else b""
        new = data[len(self.rest) :]
        # A last line without its end comes after the whole lines of the other stream.
        whole = size if self.hung_up and not new else logrecord.whole_lines(data)
        self.ready, self.rest = data[:whole], data[whole:]
        return new if new or self.ready or not size else None

    def written(self) -> None:
        left = len(self.ready)
        while left:
            left -= os.splice(self.fd, self._scratch.nowhere, left)
        super().written()


def open_pipes(run_dir: str, name: str) -> list[int]:
    """The read ends of a container's output; all or none."""
    fds = rundir.open_pipes(run_dir, name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    # A pipe whose writers were gone before it was opened reports a hang-up only after another one.
    try:
        close_all(rundir.open_pipes(run_dir, name, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        close_all(fds)
        raise
    return fds


def close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
