"""What is removed: moved aside at once, unlinked at leisure.  Blocking; for threads.

After a mass delete ext4 makes new files in the same block groups 10 to 60 times slower for a while, and a
container that starts would pay for it: beyond a first thousand, names go at a bounded rate.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

_AT_ONCE = 1000  # names: the layers of a small image
_RATE = 2000  # names a second beyond those
_STEP = 100  # names unlinked between two pauses


class Trash:
    """The directory ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._graves = itertools.count(1)
        self._later: deque[Iterator[None]] = deque()
        self._change = threading.Condition()
        self._busy = False
        self._closed = threading.Event()
        self._hurry = threading.Event()

    def open(self) -> None:
        """Go on with what an earlier process did not finish."""
        self._root.mkdir(parents=True, exist_ok=True)
        buried = list(self._root.iterdir())
        self._graves = itertools.count(1 + max((int(path.name) for path in buried), default=0))
        self.collect(*buried)

    def close(self) -> None:
        """Stop; the next process goes on."""
        self._closed.set()

    def bury(self, path: Path) -> Path:
        """Move ``path`` out of the way, quickly; answers where to, for :meth:`collect`."""
        grave = self._root / str(next(self._graves))
        path.rename(grave)
        return grave

    def remove(self, *paths: Path) -> None:
        """Remove files, and trees of any depth, now.  Needs no space: it must work on a full disk."""
        for path in paths:
            for _ in self._removing(path):
                pass

    def collect(self, *graves: Path) -> None:
        """Remove what was buried: a little of it now, the rest by and by, in the background."""
        left, rest = _AT_ONCE, []
        for grave in graves:
            names = self._removing(grave)
            left -= _take(names, left)
            if left <= 0:
                rest.append(names)
        with self._change:
            self._later.extend(rest)
            if self._busy or not self._later:
                return
            self._busy = True
        threading.Thread(target=self._trickle, name="image-trash", daemon=True).start()

    def finish(self) -> None:
        """All that was collected is gone afterwards: somebody needs the room more than a fast disk."""
        self._hurry.set()
        with self._change:
            self._change.wait_for(lambda: not self._busy)
            self._hurry.clear()

    def _trickle(self) -> None:
        # No lower priority: a thread that is kept from running while it holds the interpreter holds up all.
        while (names := self._next()) is not None:
            with contextlib.suppress(OSError):  # whatever it is, the next process tries again
                while _take(names, _STEP) == _STEP:
                    if self._closed.wait(0.0 if self._hurry.is_set() else _STEP / _RATE):
                        break

    def _next(self) -> Iterator[None] | None:
        """What is removed now; None: nothing more, and whoever collects something begins anew."""
        with self._change:
            if self._later and not self._closed.is_set():
                return self._later.popleft()
            self._busy = False
            self._change.notify_all()
            return None

    def _removing(self, path: Path) -> Iterator[None]:
        """Remove ``path``, yielding after each name that is gone.

        Sub-directories are moved up, one by one: no path gets too long, and a removal that stopped half way
        goes on with what is in the trash.
        """
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            yield
            return
        waiting = [path if path.parent == self._root else self.bury(path)]
        while waiting:
            directory = waiting.pop()
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(self.bury(Path(entry.path)))
                    else:
                        os.unlink(entry.path)
                        yield
            directory.rmdir()
            yield


def _take(names: Iterator[None], count: int) -> int:
    """Let up to ``count`` more names go; answers how many went."""
    return sum(1 for _ in itertools.islice(names, count))
