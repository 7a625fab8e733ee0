"""Work on a stream in threads of its own: pieces read ahead, or worked on a few pieces behind.

Hashing, inflating, deflating and the disk let go of the interpreter, so two cores are used.  What is
waiting is bounded: ``AHEAD`` pieces.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType

from swarmd.image.core.tar import Read

AHEAD = 4
LARGE = 4 << 20
"""Bytes read ahead at a time.  Each hand-over between threads may wait for its turn on a busy machine."""


class Pump:
    """``work`` on each piece given, in order, in a thread.  A context manager: leave it to be done.

    What ``work`` raises is raised by the next :meth:`put`, or on leaving.
    """

    def __init__(self, work: Callable[[bytes], object]) -> None:
        self._work = work
        self._pieces: queue.Queue[bytes | None] = queue.Queue(AHEAD)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="image-pump", daemon=True)

    def put(self, piece: bytes) -> None:
        """Hand over a piece; waits while too many are waiting."""
        if self._error is not None:
            raise self._error
        self._pieces.put(piece)

    def __enter__(self) -> Pump:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if kind is None and self._error is not None:
            raise self._error

    def close(self) -> None:
        """Wait until everything given is done."""
        if self._thread.is_alive():
            self._pieces.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            if self._error is None:
                try:
                    self._work(piece)
                except BaseException as error:  # noqa: BLE001 - handed to whoever gives the next piece
                    self._error = error


class Ahead:
    """A ``read`` whose pieces are read by a thread beforehand.  A context manager: leaving it stops that."""

    def __init__(self, read: Read) -> None:
        self._source = read
        self._pieces: queue.Queue[bytes | BaseException] = queue.Queue(AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="image-ahead", daemon=True)
        self._ended = False

    def read(self, count: int) -> bytes:
        """The next piece, whatever ``count``; empty at the end.  Raises what the source raised."""
        if self._ended:
            return b""
        piece = self._pieces.get()
        if isinstance(piece, BaseException):
            self._ended = True
            raise piece
        self._ended = not piece
        return piece

    def __enter__(self) -> Ahead:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._ended = True
        while self._thread.is_alive():
            try:
                self._pieces.get_nowait()
            except queue.Empty:
                self._thread.join(0.01)

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                piece = self._source(LARGE)
                self._pieces.put(piece)
                if not piece:
                    return
        except BaseException as error:  # noqa: BLE001 - handed to whoever reads
            self._pieces.put(error)
