"""SQLite on a disk that may be full: it can be opened and read there, and what frees room written down.

Blocking; for threads.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from swarmd.image.streams import is_full

T = TypeVar("T")

_ASIDE = 128 << 10


def connect(path: Path) -> sqlite3.Connection:
    """Open a database that nobody else uses, for threads that take turns.  Raises sqlite3.Error."""
    connection = sqlite3.connect(path, check_same_thread=False)
    # Alone it needs no file in shared memory, which has to be written before anything can be read, and whose
    # missing blocks on a full disk end the process.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    return connection


class Spare:
    """Bytes in the file ``path``, kept aside: what frees space must be written down on a full disk too."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def root(self) -> Path:
        """The directory they are in."""
        return self._path.parent

    def keep(self) -> None:
        """Put them aside again, if there is room."""
        with contextlib.suppress(OSError):
            if not self._path.exists():
                try:
                    self._path.write_bytes(bytes(_ASIDE))
                except OSError:
                    self._path.unlink(missing_ok=True)
                    raise

    def helping(self, work: Callable[[], T]) -> T:
        """What ``work`` answers; with the room of these bytes, if it does not go without."""
        try:
            return work()
        except (sqlite3.Error, OSError) as error:
            if not is_full(error) or not self._path.exists():
                raise
        self._path.unlink()
        return work()
