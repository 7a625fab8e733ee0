"""Between the event loop and a thread that blocks: few bytes wait, whoever is too fast is made to wait.

async side ──put──► [piece, piece, …] ──► iterated in a thread
a thread's generator ──► :func:`stream` ──► async side
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterator

PIECES = 4
"""That may wait."""


class GivenUp(Exception):
    """The other side went away before the end."""


class Handover:
    """Pieces from the event loop, to be iterated once in a thread."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._is_whole = False
        self._is_over = False

    async def put(self, piece: bytes) -> None:
        """Add one, when there is room.  After the end of the other side it is dropped."""
        while len(self._pieces) >= PIECES and not self._is_over:
            self._room.clear()
            if len(self._pieces) >= PIECES:
                await self._room.wait()
        with self._changed:
            self._pieces.append(piece)
            self._changed.notify()

    def end(self) -> None:
        """That was all."""
        with self._changed:
            self._is_whole = True
            self._changed.notify()

    def give_up(self) -> None:
        """Nothing more comes, and nothing more is wanted: neither side waits any longer."""
        with self._changed:
            self._is_over = True
            self._changed.notify()
        self._room.set()

    def __iter__(self) -> Iterator[bytes]:
        while (piece := self._next()) is not None:
            yield piece

    def _next(self) -> bytes | None:
        with self._changed:
            while not (self._pieces or self._is_whole or self._is_over):
                self._changed.wait()
            if self._is_over:
                raise GivenUp
            piece = self._pieces.popleft() if self._pieces else None
        self._loop.call_soon_threadsafe(self._room.set)
        return piece


async def stream(
    threads: concurrent.futures.ThreadPoolExecutor, pieces: Generator[bytes]
) -> AsyncGenerator[bytes, None]:
    """What a blocking generator yields; a thread is used for one piece at a time."""
    step: concurrent.futures.Future[bytes | None] | None = None
    try:
        while True:
            step = threads.submit(next, pieces, None)
            piece = await asyncio.wrap_future(step)
            if piece is None:
                return
            yield piece
    finally:
        threads.submit(_close, step, pieces)


def _close(step: concurrent.futures.Future[bytes | None] | None, pieces: Generator[bytes]) -> None:
    if step is not None:  # a generator that is at work cannot be closed
        concurrent.futures.wait([step])
    pieces.close()
