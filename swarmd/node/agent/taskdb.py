"""The agent's task database: SQLite, each change durable before it is acted on or reported."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from swarmd.model.errors import Unavailable
from swarmd.node.agent.core.record import TaskRecord, decode, encode

T = TypeVar("T")


class TaskDatabase:
    """All calls run in one thread of its own: SQLite connections stay with their thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="taskdb")
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def open(self) -> list[TaskRecord]:
        """Every record kept.  One that cannot be read is dropped: its container is then a stray."""
        return await self._run(self._open)

    async def put(self, record: TaskRecord) -> None:
        """Raises Unavailable when the disk does not take it."""
        await self._run(
            lambda: self._execute("REPLACE INTO tasks VALUES (?, ?)", record.task_id, encode(record))
        )

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
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(f"the task database {self._path} cannot be used: {error}") from error

    def _open(self) -> list[TaskRecord]:
        connection = sqlite3.connect(self._path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS tasks (id TEXT PRIMARY KEY, record BLOB NOT NULL)")
        connection.commit()
        self._connection = connection
        records: list[TaskRecord] = []
        for task_id, data in connection.execute("SELECT id, record FROM tasks").fetchall():
            try:
                records.append(decode(data))
            except msgspec.DecodeError:
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
