"""What build contexts brought, by digest, so that a file is sent once.  Blocking; for threads.

Files lie behind each other in segments, one for each build that brought something; ``build.db`` knows where.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

from swarmd.image.streams import disk_errors
from swarmd.kit.ids import NewId
from swarmd.model.errors import Invalid, Unavailable
from swarmd.node.building.merged import write_all

_SCHEMA = """
CREATE TABLE IF NOT EXISTS segments(name TEXT PRIMARY KEY, size INTEGER NOT NULL, used REAL NOT NULL);
CREATE TABLE IF NOT EXISTS files(
  digest TEXT PRIMARY KEY, segment TEXT NOT NULL, start INTEGER NOT NULL, size INTEGER NOT NULL
) WITHOUT ROWID;
"""
_AT_ONCE = 500


class Piece(msgspec.Struct, frozen=True):
    """Where a content lies."""

    segment: str
    start: int
    size: int


class Spool:
    """The segments in ``root``; ``database`` is shared, under ``lock``.

    ``has_grown``: since it was last pruned.
    """

    def __init__(self, root: Path, database: sqlite3.Connection, lock: threading.Lock, new_id: NewId) -> None:
        self._root = root
        self._database = database
        self._lock = lock
        self._new_id = new_id
        self.has_grown = True
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        database.executescript(_SCHEMA)
        known = {name for (name,) in database.execute("SELECT name FROM segments")}
        for path in root.iterdir():  # one that was being written
            if path.name not in known:
                path.unlink()

    def find(self, digests: Iterable[str]) -> dict[str, Piece]:
        """Which of them are here, and where."""
        wanted, found = list(digests), {}
        with self._lock:
            for at in range(0, len(wanted), _AT_ONCE):
                some = wanted[at : at + _AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = self._database.execute(
                    f"SELECT digest, segment, start, size FROM files WHERE digest IN ({marks})", some
                )
                found.update({digest: Piece(*place) for digest, *place in rows})
        return found

    def begin(self) -> Writing:
        """A new segment."""
        return Writing(self, self._root / self._new_id())

    def open(self, piece: Piece) -> int:
        """A descriptor at the beginning of a content.  Raises Unavailable when it is gone."""
        try:
            fd = os.open(self._root / piece.segment, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise self._lost(piece) from None
        if os.fstat(fd).st_size < piece.start + piece.size:  # the machine stopped before it was all on disk
            os.close(fd)
            raise self._lost(piece)
        os.lseek(fd, piece.start, os.SEEK_SET)
        return fd

    def _lost(self, piece: Piece) -> Unavailable:
        """It is asked for again next time."""
        with self._lock, self._database:
            self._database.execute("DELETE FROM files WHERE segment = ?", (piece.segment,))
        return Unavailable("a file of the build context was removed meanwhile: build again")

    def used(self, segments: Iterable[str], now: float) -> None:
        """They are not the first to go."""
        with self._lock, self._database:
            self._database.executemany(
                "UPDATE segments SET used = ? WHERE name = ?", [(now, name) for name in set(segments)]
            )

    def size(self) -> int:
        """Bytes of all of them."""
        with self._lock:
            return int(self._database.execute("SELECT coalesce(sum(size), 0) FROM segments").fetchone()[0])

    def prune(self, *, before: float, keep: int) -> int:
        """Remove segments not used since ``before``, and the oldest until ``keep`` bytes are left.

        Answers the bytes freed.
        """
        self.has_grown = False
        with self._lock, self._database:
            rows = self._database.execute("SELECT name, size, used FROM segments ORDER BY used").fetchall()
            left, gone = sum(size for _, size, _ in rows), []
            for name, size, used in rows:
                if used < before or left > keep:
                    gone.append((name, size))
                    left -= size
            for name, _ in gone:
                self._database.execute("DELETE FROM files WHERE segment = ?", (name,))
                self._database.execute("DELETE FROM segments WHERE name = ?", (name,))
        for name, _ in gone:
            (self._root / name).unlink(missing_ok=True)
        return sum(size for _, size in gone)

    def add(self, name: str, size: int, files: dict[str, Piece], now: float) -> None:
        """A segment is written."""
        rows = [(digest, piece.segment, piece.start, piece.size) for digest, piece in files.items()]
        with self._lock, self._database:
            self.has_grown = True
            self._database.execute("INSERT INTO segments VALUES (?, ?, ?)", (name, size, now))
            self._database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)


class Writing:
    """Contents on their way into a segment, one after the other."""

    def __init__(self, spool: Spool, path: Path) -> None:
        self._spool = spool
        self._path = path
        self._fd = -1
        self._start = self._size = 0
        self._hash = hashlib.sha256()
        self.files: dict[str, Piece] = {}

    def write(self, data: bytes) -> None:
        """More of the present file.  Raises Unavailable for a full disk."""
        try:
            with disk_errors(self._path.parent):
                if self._fd < 0:
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                    self._fd = os.open(self._path, flags, 0o600)
                write_all(self._fd, data)
        except OSError as error:
            raise Unavailable(f"the build context cannot be written to disk: {error}") from error
        self._hash.update(data)
        self._size += len(data)

    def end_file(self, digest: str) -> Piece:
        """The present file is whole.  Raises Invalid when it is not what was told of it."""
        found = self._hash.hexdigest()
        if found != digest:
            raise Invalid("a file of the build context changed while it was sent: build again")
        piece = Piece(self._path.name, self._start, self._size - self._start)
        self.files[digest] = piece
        self._start, self._hash = self._size, hashlib.sha256()
        return piece

    def end(self, now: float) -> None:
        """Keep what came whole."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self.files:
            files, self.files = self.files, {}
            try:
                self._path.touch(0o600)
                self._spool.add(self._path.name, self._size, files, now)
            except BaseException:  # there may be no room for a note of it
                self._path.unlink(missing_ok=True)
                raise
        else:
            self._path.unlink(missing_ok=True)
