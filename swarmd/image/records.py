"""The catalogue on disk: SQLite, each change one transaction, durable when :meth:`Records.save` returns.

Blocking; for threads.  Whoever changes the catalogue holds the store's lock: one writer at a time.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import msgspec

from swarmd.image.core.catalog import Catalog, ImageRow
from swarmd.model.errors import SwarmError, Unavailable

_TABLES = ("images", "refs", "indexes", "layers")
_SCHEMA = "CREATE TABLE IF NOT EXISTS {} (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
_RESERVE = 128 << 10
"""Bytes kept aside: what frees space must be written down on a full disk too."""


class Records:
    """The file ``path``, and ``old``: the catalogue of release 0.1.0, which is taken over."""

    def __init__(self, path: Path, old: Path) -> None:
        self._path = path
        self._old = old
        self._spare = path.with_name("spare")
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._saved = Catalog()

    def open(self) -> Catalog:
        """The catalogue as last saved.  Raises :class:`SwarmError` for a damaged one."""
        try:
            self.close()
            self._connection = _connect(self._path)
            self._saved = catalog = self._read()
        except (sqlite3.DatabaseError, msgspec.MsgspecError) as error:
            self.close()
            if _is_full(error):
                raise self._no_space() from error
            raise SwarmError(
                f"{self._path} is damaged ({error}): move it away and load the images again"
            ) from error
        self.keep_reserve()
        return self._take_over(catalog)

    def save(self, catalog: Catalog) -> None:
        """Write what is new, all or nothing.  Raises Unavailable for a full disk."""
        try:
            try:
                self._write(catalog)
            except sqlite3.OperationalError as error:
                if not _is_full(error) or not self._spare.exists():
                    raise
                self._spare.unlink()
                self._write(catalog)
        except sqlite3.Error as error:
            if _is_full(error):
                raise self._no_space() from error
            raise Unavailable(f"{self._path} cannot be written: {error}") from error

    def keep_reserve(self) -> None:
        """Put bytes aside again, if there is room."""
        with contextlib.suppress(OSError):
            if not self._spare.exists():
                try:
                    self._spare.write_bytes(bytes(_RESERVE))
                except OSError:
                    self._spare.unlink(missing_ok=True)
                    raise

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(self, catalog: Catalog) -> None:
        connection = self._connection
        if connection is None:
            raise sqlite3.ProgrammingError("it is not open")
        with self._lock, connection:
            for table in _TABLES:
                before, after = getattr(self._saved, table), getattr(catalog, table)
                gone = [(key,) for key in before if key not in after]
                changed = [
                    (key, msgspec.json.encode(value))
                    for key, value in after.items()
                    if before.get(key) != value
                ]
                connection.executemany(f"DELETE FROM {table} WHERE key = ?", gone)
                connection.executemany(f"REPLACE INTO {table} VALUES (?, ?)", changed)
        self._saved = catalog

    def _read(self) -> Catalog:
        images = {key: msgspec.json.decode(value, type=ImageRow) for key, value in self._rows("images")}
        refs, indexes, layers = (
            {key: msgspec.json.decode(value, type=str) for key, value in self._rows(table)}
            for table in _TABLES[1:]
        )
        return Catalog(images, refs, indexes, layers)

    def _rows(self, table: str) -> list[tuple[str, bytes]]:
        assert self._connection is not None
        return self._connection.execute(f"SELECT key, value FROM {table}").fetchall()

    def _take_over(self, catalog: Catalog) -> Catalog:
        if not self._old.exists():
            return catalog
        if not catalog.images:
            try:
                catalog = msgspec.json.decode(self._old.read_bytes(), type=Catalog)
            except msgspec.MsgspecError as error:
                raise SwarmError(
                    f"{self._old} is damaged ({error}): move it away and load the images again"
                ) from error
            self.save(catalog)
        self._old.unlink()
        return catalog

    def _no_space(self) -> Unavailable:
        return Unavailable(
            f"no space left for images in {self._path.parent}: "
            "free some (swarmctl image prune) or enlarge the disk"
        )


def _connect(path: Path) -> sqlite3.Connection:
    # Threads of the pool take turns; the lock above keeps them apart.
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 64")
    for table in _TABLES:
        connection.execute(_SCHEMA.format(table))
    connection.commit()
    return connection


def _is_full(error: Exception) -> bool:
    return (
        isinstance(error, sqlite3.Error)
        and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    )
