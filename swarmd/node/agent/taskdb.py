"""The agent's task database: SQLite, each record sealed, each change durable before it is acted on."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from swarmd.image.database import Spare
from swarmd.image.streams import disk_errors
from swarmd.model.errors import Unavailable
from swarmd.node.agent.core.record import TaskRecord, decode, encode
from swarmd.security.sealing import HEAD_BYTES, PLAIN, CannotOpen, Sealer, is_sealed, key_id_of

T = TypeVar("T")


class TaskDatabase:
    """All calls run in one thread of its own: SQLite connections stay with their thread."""

    def __init__(self, path: Path, sealer: Sealer = PLAIN) -> None:
        self._path = path
        self._sealer = sealer
        self._spare = Spare(path.with_name("tasks.spare"))
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="taskdb")
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def open(self) -> list[TaskRecord]:
        """Every record kept.  One that cannot be read is dropped: its container is then a stray."""
        return await self._run(self._open)

    async def put(self, record: TaskRecord) -> None:
        """Raises Unavailable when the disk does not take it."""
        piece = self._sealer.seal(_place(record.task_id), encode(record))
        await self._run(lambda: self._execute("REPLACE INTO tasks VALUES (?, ?)", record.task_id, piece))

    async def delete(self, task_id: str) -> None:
        await self._run(lambda: self._execute("DELETE FROM tasks WHERE id = ?", task_id))

    async def close(self) -> None:
        """What is asked of it afterwards is Unavailable."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
            self._thread.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise Unavailable(f"the task database {self._path} is closed")
        try:
            with disk_errors(self._path.parent, "tasks"):
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(f"the task database {self._path} cannot be used: {error}") from error

    def _open(self) -> list[TaskRecord]:
        # Before anything can be read a file of shared memory is made: a full disk has no room for it.
        self._connection = connection = self._spare.helping(lambda: _connect(self._path))
        self._spare.keep()
        records: list[TaskRecord] = []
        for task_id, data in connection.execute("SELECT id, record FROM tasks").fetchall():
            try:
                records.append(decode(self._sealer.open(_place(task_id), data)))
            except (msgspec.DecodeError, CannotOpen):
                self._execute("DELETE FROM tasks WHERE id = ?", task_id)
        return records

    def _execute(self, statement: str, *values: object) -> None:
        if self._connection is None:
            raise sqlite3.ProgrammingError("it is not open")
        with self._connection:
            self._connection.execute(statement, values)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._spare.keep()


def seal_all(path: Path, sealer: Sealer) -> None:
    """Seal what an older release wrote in the clear, and leave no copy of it.  Raises Unavailable."""
    if not path.exists():
        return
    try:
        with contextlib.closing(_connect(path)) as connection:
            with connection:
                for task_id, data in connection.execute("SELECT id, record FROM tasks").fetchall():
                    piece = data if is_sealed(data) else sealer.seal(_place(task_id), data)
                    connection.execute("UPDATE tasks SET record = ? WHERE id = ?", (piece, task_id))
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise Unavailable(f"the task database {path} cannot be used: {error}") from error


def keys_used(path: Path) -> set[int]:
    """Ids of the data keys that sealed the records in ``path``.  Raises OSError."""
    if not path.exists():
        return set()
    address = f"{path.absolute().as_uri()}?mode=ro"
    try:
        # Who asks is in a hurry, and may ask again.
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=0.1)) as connection:
            rows = connection.execute(f"SELECT substr(record, 1, {HEAD_BYTES}) FROM tasks").fetchall()
    except sqlite3.Error as error:
        raise OSError(f"{path} cannot be read: {error}") from error
    return {key_id_of(head) for (head,) in rows}


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS tasks (id TEXT PRIMARY KEY, record BLOB NOT NULL)")
    connection.commit()
    return connection


def _place(task_id: str) -> bytes:
    return b"task" + task_id.encode()
