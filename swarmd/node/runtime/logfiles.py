"""The log files of one container as the pump writes them: append, rotate, forget the oldest.

A disk that takes nothing costs output, not the container: what could not be written is counted, and the log
says so as soon as there is room again.
"""

from __future__ import annotations

import os
import time

from swarmd.node.runtime import wire
from swarmd.node.runtime.core import logrecord


class LogFiles:
    """Files 00000001.log, 00000002.log ... of ``directory``; the highest number is being written.

    :class:`FileNotFoundError` if there is no such directory: its container has been removed.
    """

    def __init__(self, directory: str, max_size: int, max_files: int) -> None:
        self._directory = directory
        self._max_size = max_size
        self._max_files = max(1, max_files)
        numbers = logrecord.file_numbers(os.listdir(directory))
        self._number = numbers[-1] if numbers else 1
        self._fd = self._open(self._number)
        self._size = self._repaired()
        self._lost = 0
        self._reason = ""
        self._ended = False

    def _open(self, number: int) -> int:
        path = f"{self._directory}/{logrecord.file_name(number)}"
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _repaired(self) -> int:
        """The size, without the torn record a killed pump may have left."""
        size = os.fstat(self._fd).st_size
        if size:
            intact = logrecord.intact(os.pread(self._fd, size, 0))
            if intact != size:
                os.ftruncate(self._fd, intact)
            size = intact
        return size

    def place(self) -> tuple[int, int]:
        """The number of the file being written, and its size."""
        return self._number, self._size

    def write(self, stream: int, data: bytes) -> None:
        """A record, or the count of what is missing if it cannot be written."""
        if not self.settled() or not self._append(stream, data):
            if stream == logrecord.END:
                self._ended = True
            self._lost += len(data)

    @property
    def owes(self) -> bool:
        """Something has to be made up for."""
        return self._ended or self._lost > 0

    def settled(self) -> bool:
        """Try to: that output was lost is said, and that it has ended."""
        if self._lost:
            text = f"[swarmd: {self._lost} bytes of output could not be written here: {self._reason}]\n"
            if not self._append(logrecord.STDERR, text.encode()):
                return False
            self._lost = 0
        if self._ended and self._append(logrecord.END, b""):
            self._ended = False
        return not self._ended

    def _append(self, stream: int, data: bytes) -> bool:
        record = logrecord.encode(time.clock_gettime_ns(time.CLOCK_REALTIME), stream, data)
        try:
            if self._max_size and self._size and self._size + len(record) > self._max_size:
                self._rotate()
            if os.write(self._fd, record) == len(record):
                self._size += len(record)
                return True
            self._reason = "No space left on device"
        except OSError as error:
            self._reason = error.strerror or str(error)
        with wire.ignoring(OSError):
            os.ftruncate(self._fd, self._size)  # the part of a record that found room
        return False

    def _rotate(self) -> None:
        """The oldest goes first: on a full disk that is the room for the next."""
        for number in logrecord.file_numbers(os.listdir(self._directory))[: 1 - self._max_files or None]:
            if number != self._number:
                os.unlink(f"{self._directory}/{logrecord.file_name(number)}")
        fd = self._open(self._number + 1)
        os.close(self._fd)
        self._fd, self._number, self._size = fd, self._number + 1, 0
        if self._max_files == 1:
            os.unlink(f"{self._directory}/{logrecord.file_name(self._number - 1)}")

    def close(self) -> None:
        os.close(self._fd)
