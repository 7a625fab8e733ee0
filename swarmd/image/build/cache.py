"""What operations of builds came to, by key, in SQLite.  Blocking, but short: for threads.

A row says which layer an operation made, or that it changed nothing.  The layers are kept alive by
:meth:`Cache.roots`; a row whose layer is gone nevertheless is forgotten when somebody asks for it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence

import msgspec

from swarmd.image.port import Layer

_SCHEMA = """
CREATE TABLE IF NOT EXISTS steps(
  key TEXT PRIMARY KEY, digest TEXT NOT NULL, diff_id TEXT NOT NULL, size INTEGER NOT NULL,
  media_type TEXT NOT NULL, created REAL NOT NULL, used REAL NOT NULL, text TEXT NOT NULL
) WITHOUT ROWID;
"""
_COLUMNS = "key, digest, diff_id, size, media_type, created, used, text"
_NEVER = -1.0


class Outcome(msgspec.Struct, frozen=True):
    """Of an operation.  ``layer`` is None when it changed no file; ``created``: seconds since 1970."""

    layer: Layer | None
    created: float


class CacheRow(msgspec.Struct, frozen=True):
    """``text``: the instruction; ``used``: when last, seconds since 1970."""

    key: str
    outcome: Outcome
    used: float
    text: str

    @property
    def size(self) -> int:
        """Bytes of its blob."""
        return self.outcome.layer.size if self.outcome.layer is not None else 0


class Pruned(msgspec.Struct, frozen=True):
    """Keys that were forgotten, and bytes of layers that nothing else in the cache has."""

    keys: tuple[str, ...]
    freed: int


class Cache:
    """Rows in ``database``, which others may use under the same ``lock``."""

    def __init__(
        self, database: sqlite3.Connection, lock: threading.Lock, has: Callable[[str], bool]
    ) -> None:
        self._database = database
        self._lock = lock
        self._has = has
        database.executescript(_SCHEMA)
        self._roots: dict[str, int] = {}
        for (digest,) in database.execute("SELECT digest FROM steps WHERE digest != ''"):
            self._roots[digest] = self._roots.get(digest, 0) + 1

    def get(self, key: str, now: float) -> Outcome | None:
        """What is known under a key; it counts as used now."""
        with self._lock, self._database:
            row = self._database.execute(f"SELECT {_COLUMNS} FROM steps WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            found = _row(row)
            layer = found.outcome.layer
            if layer is not None and not self._has(layer.digest):
                self._forget([found])
                return None
            if now - found.used > 1:
                self._database.execute("UPDATE steps SET used = ? WHERE key = ?", (now, key))
            return found.outcome

    def put(self, key: str, outcome: Outcome, text: str, now: float) -> None:
        """Remember."""
        layer = outcome.layer or Layer("", "", 0)
        values = (
            key, layer.digest, layer.diff_id, layer.size, layer.media_type, outcome.created, now, text
        )  # fmt: skip
        with self._lock, self._database:
            before = self._database.execute(f"SELECT {_COLUMNS} FROM steps WHERE key = ?", (key,)).fetchone()
            if before is not None:
                self._forget([_row(before)])
            self._database.execute("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
            if layer.digest:
                self._roots[layer.digest] = self._roots.get(layer.digest, 0) + 1

    def roots(self) -> tuple[str, ...]:
        """Digests of all layers that are remembered."""
        return tuple(self._roots)

    def rows(self) -> list[CacheRow]:
        """All, the last used first."""
        with self._lock:
            rows = self._database.execute(f"SELECT {_COLUMNS} FROM steps ORDER BY used DESC, key").fetchall()
        return [_row(row) for row in rows]

    def size(self) -> int:
        """Bytes of the layers."""
        with self._lock:
            total = "SELECT coalesce(sum(size), 0) FROM (SELECT DISTINCT digest, size FROM steps)"
            return int(self._database.execute(total).fetchone()[0])

    def prune(self, *, before: float = _NEVER, keep: int = -1, everything: bool = False) -> Pruned:
        """Forget what was last used before then, and the oldest until ``keep`` bytes are left (-1: any)."""
        left = self.size()
        if not everything and before <= 0 and (keep < 0 or left <= keep):
            return Pruned((), 0)
        gone: list[CacheRow] = []
        for row in reversed(self.rows()):
            if everything or row.used < before or 0 <= keep < left:
                gone.append(row)
                left -= row.size
        with self._lock, self._database:
            held = set(self._roots)
            self._forget(gone)
            freed = held - set(self._roots)
        sizes = {row.outcome.layer.digest: row.size for row in gone if row.outcome.layer is not None}
        return Pruned(tuple(row.key for row in gone), sum(sizes[digest] for digest in freed))

    def _forget(self, rows: Sequence[CacheRow]) -> None:
        for row in rows:
            self._database.execute("DELETE FROM steps WHERE key = ?", (row.key,))
            layer = row.outcome.layer
            if layer is not None:
                self._roots[layer.digest] = self._roots.get(layer.digest, 1) - 1
                if not self._roots[layer.digest]:
                    del self._roots[layer.digest]


def _row(values: tuple[str, str, str, int, str, float, float, str]) -> CacheRow:
    key, digest, diff_id, size, media_type, created, used, text = values
    layer = Layer(digest, diff_id, size, media_type) if digest else None
    return CacheRow(key, Outcome(layer, created), used, text)
