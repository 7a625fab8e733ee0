"""Follows a container's output as it is written: live from the log pump, and from the log what came before.

Live output that is not taken in time is dropped by the pump, and the pump may be replaced; in both cases
what is missing is read from the log, which has it as long as it has not been rotated away.  Nothing is given
twice.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from swarmd.kit.clock import Clock
from swarmd.node.runtime import rundir, wire
from swarmd.node.runtime.core import logrecord
from swarmd.node.runtime.core.following import START, Following, Mark, Missed
from swarmd.node.runtime.core.logformat import Record, decode
from swarmd.node.runtime.draining import has_ended

_CHUNK = 32 * 1024
_RETRY = 0.1

Piece = tuple[int, bytes]


class Follower:
    """One reader.  ``logs``: beginning with what has been written so far."""

    def __init__(self, name: str, run_dir: Path, container_dir: Path, clock: Clock, *, logs: bool) -> None:
        self._name = name
        self._socket = str(run_dir / rundir.LOG_SOCKET)
        self._logs = container_dir / "log"
        self._clock = clock
        self._connection: socket.socket | None = None
        self._following = Following(START) if logs else None
        self._backlog: Iterator[Piece] = iter(())
        self._over = False

    async def read(self) -> Piece | None:
        """The next (1 stdout or 2 stderr, bytes); None when all has been given."""
        while True:
            for piece in self._backlog:
                if piece[1]:
                    return piece
            if self._over:
                return None
            if self._connection is None:
                await self.begin()
                continue
            message = await self._receive(self._connection)
            if message is not None and message[1] == "data":
                _, _, stream, data = message
                if self._following is not None:
                    self._following.live(stream, data)
                return stream, data
            self._over = message is not None
            self._disconnect()

    async def begin(self) -> None:
        """Be connected, or know that the output is over."""
        while self._connection is None and not self._over:
            pump, mark = await self._connect()
            if mark is not None:
                self._backlog, self._following = self._missed(mark), Following(mark)
            elif pump and has_ended(self._logs):
                self._backlog, self._over = self._missed(None), True
            elif not self._logs.exists():  # removed
                self._over = True
            else:  # a new pump is on its way, or will soon be told of this container
                await self._clock.sleep(_RETRY)

    async def _connect(self) -> tuple[int, Mark | None]:
        """The pump that is there (0: none), and where the output stands."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(self._socket)
            connection.setblocking(False)
            wire.send(connection, wire.encode(1, "attach", self._name))
            answer = await self._receive(connection)
        except OSError:
            answer = None
        except BaseException:
            connection.close()
            raise
        if answer is None or answer[3] is None:
            connection.close()
            return answer[2] if answer is not None else 0, None
        self._connection = connection
        return answer[2], msgspec.convert(answer[3], Mark)

    def _missed(self, upto: Mark | None) -> Iterator[Piece]:
        if self._following is None:
            return iter(())
        return _pieces(self._logs, self._following.mark, upto, self._following.missed())

    async def _receive(self, connection: socket.socket) -> tuple[Any, ...] | None:
        """None when the pump has hung up."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                return wire.receive(connection)[0]
            except BlockingIOError:
                pass
            except (OSError, EOFError):
                return None
            ready = asyncio.Event()
            loop.add_reader(connection.fileno(), ready.set)
            try:
                await ready.wait()
            finally:
                if connection.fileno() >= 0:
                    loop.remove_reader(connection.fileno())

    def _disconnect(self) -> None:
        if self._connection is not None:
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """A reader that waits hears the end."""
        self._over = True
        self._backlog = iter(())
        if self._connection is not None:
            self._connection.shutdown(socket.SHUT_RDWR)


def _pieces(directory: Path, since: Mark, upto: Mark | None, missed: Missed) -> Iterator[Piece]:
    """The log between two marks and what is held back at the second; to its end without one."""
    for record in _records(directory, since, upto):
        data = missed.of(record.stream, record.data)
        for at in range(0, len(data), _CHUNK):
            yield record.stream, data[at : at + _CHUNK]
    if upto is not None:
        for stream in (logrecord.STDOUT, logrecord.STDERR):
            yield stream, missed.of(stream, upto.rest(stream))


def _records(directory: Path, since: Mark, upto: Mark | None) -> Iterator[Record]:
    for number in _numbers(directory):
        if number < since.number or (upto is not None and number > upto.number):
            continue
        start = since.size if number == since.number else 0
        end = upto.size if upto is not None and number == upto.number else -1
        yield from _file(directory / logrecord.file_name(number), start, end)


def _file(path: Path, start: int, end: int) -> Iterator[Record]:
    """``end`` -1: all of it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # rotated away
        return
    try:
        rest = b""
        while end < 0 or start < end:
            data = os.pread(fd, _CHUNK if end < 0 else min(_CHUNK, end - start), start)
            if not data:
                return
            start += len(data)
            records, used = decode(rest + data)
            rest = (rest + data)[used:]
            yield from records
    finally:
        os.close(fd)


def _numbers(directory: Path) -> list[int]:
    try:
        return logrecord.file_numbers(os.listdir(directory))
    except FileNotFoundError:
        return []
