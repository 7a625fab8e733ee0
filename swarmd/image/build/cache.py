"""What operations of builds came to, by key, in SQLite.  Blocking, but short: for threads, but for ``get``.

A row says which layer an operation made, or that it changed nothing.  The layers are kept alive by
:meth:`Cache.roots`; a row whose layer is gone nevertheless is forgotten when somebody asks for it.
All rows are in memory as well; when a row was last used is written with the next change.
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
    """Keys that were forgotten, and bytes of layers that nothing else in the cache has.

    ``layers``: digests and diffIDs of those.
    """

    keys: tuple[str, ...]
    freed: int
    layers: tuple[str, ...] = ()


class Cache:
    """Rows in ``database``, which others may use under the same ``lock``.

    ``has_grown``: since it was last pruned.
    """

    def __init__(
        self, database: sqlite3.Connection, lock: threading.Lock, has: Callable[[str], bool]
    ) -> None:
        self._database = database
        self._lock = lock
        self._has = has
        database.executescript(_SCHEMA)
        self._outcomes: dict[str, Outcome] = {}
        self._used: dict[str, float] = {}
        self._roots: dict[str, int] = {}
        self.has_grown = True
        for row in map(_row, database.execute(f"SELECT {_COLUMNS} FROM steps")):
            self._keep(row.key, row.outcome)

    def get(self, key: str, now: float) -> Outcome | None:
        """What is known under a key; it counts as used now.  Reads no file."""
        found = self._outcomes.get(key)
        if found is None:
            return None
        if found.layer is not None and not self._has(found.layer.digest):
            with self._lock, self._database:
                self._forget([key])
            return None
        self._used[key] = now
        return found

    def put(self, key: str, outcome: Outcome, text: str, now: float) -> None:
        """Remember."""
        layer = outcome.layer or Layer("", "", 0)
        values = (
            key, layer.digest, layer.diff_id, layer.size, layer.media_type, outcome.created, now, text
        )  # fmt: skip
        with self._lock, self._database:
            self._forget([key])
            self._database.execute("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
            self._keep(key, outcome)
            self.has_grown = True

    def roots(self) -> tuple[str, ...]:
        """Digests of all layers that are remembered."""
        return tuple(self._roots)

    def rows(self) -> list[CacheRow]:
        """All, the last used first."""
        self.settle()
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
        self.has_grown = False
        if not everything and before <= 0 and (keep < 0 or left <= keep):
            return Pruned((), 0)
        gone: list[CacheRow] = []
        for row in reversed(self.rows()):
            if everything or row.used < before or 0 <= keep < left:
                gone.append(row)
                left -= row.size
        with self._lock, self._database:
            self._forget([row.key for row in gone])
        # Of the rows, not of what was forgotten now: an attempt before may have had no room for its note.
        found = {layer.digest: layer for row in gone if (layer := row.outcome.layer) is not None}
        layers = [layer for digest, layer in found.items() if digest not in self._roots]
        names = tuple(name for layer in layers for name in (layer.digest, layer.diff_id))
        return Pruned(tuple(row.key for row in gone), sum(layer.size for layer in layers), names)

    def settle(self) -> None:
        """Write when rows were used."""
        with self._lock, self._database:
            used, self._used = self._used, {}
            # list(): whoever asks meanwhile may still write into it
            self._database.executemany("UPDATE steps SET used = ?2 WHERE key = ?1", list(used.items()))

    def _keep(self, key: str, outcome: Outcome) -> None:
        self._outcomes[key] = outcome
        if outcome.layer is not None:
            self._roots[outcome.layer.digest] = self._roots.get(outcome.layer.digest, 0) + 1

    def _forget(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._used.pop(key, None)
            outcome = self._outcomes.pop(key, None)
            if outcome is None:
                continue
            self._database.execute("DELETE FROM steps WHERE key = ?", (key,))
            if outcome.layer is not None:
                digest = outcome.layer.digest
                self._roots[digest] -= 1
                if not self._roots[digest]:
                    del self._roots[digest]


def _row(values: tuple[str, str, str, int, str, float, float, str]) -> CacheRow:
    key, digest, diff_id, size, media_type, created, used, text = values
    layer = Layer(digest, diff_id, size, media_type) if digest else None
    return CacheRow(key, Outcome(layer, created), used, text)
