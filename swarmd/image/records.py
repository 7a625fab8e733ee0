"""The catalogue on disk: SQLite, each change one transaction, durable when :meth:`Records.save` returns.

Blocking; for threads.  Whoever changes the catalogue holds the store's lock: one writer at a time.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import msgspec

from swarmd.image.core.catalog import Catalog, ImageRow
from swarmd.image.database import Spare, connect
from swarmd.image.streams import is_full, no_space
from swarmd.model.errors import SwarmError, Unavailable

_TABLES = ("images", "refs", "indexes", "layers")
_SCHEMA = "CREATE TABLE IF NOT EXISTS {} (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"


class Records:
    """The file ``path``, and ``old``: the catalogue of release 0.1.0, which is taken over."""

    def __init__(self, path: Path, old: Path) -> None:
        self._path = path
        self._old = old
        self._spare = Spare(path.with_name("spare"))
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
            if is_full(error):
                raise no_space(self._path.parent) from error
            if isinstance(error, sqlite3.OperationalError):
                raise Unavailable(f"{self._path} cannot be read: {error}") from error
            raise SwarmError(
                f"{self._path} is damaged ({error}): move it away and load the images again"
            ) from error
        self.keep_reserve()
        return self._take_over(catalog)

    def save(self, catalog: Catalog) -> None:
        """Write what is new, all or nothing.  Raises Unavailable for a full disk."""
        try:
            self._spare.helping(lambda: self._write(catalog))
        except sqlite3.Error as error:
            if is_full(error):
                raise no_space(self._path.parent) from error
            raise Unavailable(f"{self._path} cannot be written: {error}") from error

    def keep_reserve(self) -> None:
        """Put bytes aside again, if there is room."""
        self._spare.keep()

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


def _connect(path: Path) -> sqlite3.Connection:
    connection = connect(path)  # threads of the pool take turns; the lock above keeps them apart
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 64")
    for table in _TABLES:
        connection.execute(_SCHEMA.format(table))
    connection.commit()
    return connection
