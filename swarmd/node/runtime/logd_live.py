"""The log pump's live side: who is attached gets what a container writes as it is read, whole lines or not.

A subscriber connects to ``logd.sock`` and asks ``attach`` id.  The answer tells this pump from the next one,
and gives a mark if the output is not over: the log file being written, its size, and what is held back of
stdout and stderr because the line goes on.  What was written before is in the files up to there and in those
rests; all that comes later is sent: ``data`` stream, bytes, then ``end``.  One that does not keep up is
dropped when its socket is full.  It costs the container nothing and the pump no memory, and the subscriber
finds what it missed in the files.
"""

from __future__ import annotations

import _socket
import os
import select

from swarmd.node.runtime import rundir, wire
from swarmd.node.runtime.core.logrecord import STDERR, STDOUT

TYPE_CHECKING = False  # importing typing would cost the pump a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Mark = tuple[int, int, bytes, bytes]

_PIECE = 32 * 1024


class Live:
    """``mark`` answers where a container's output stands, None if it has none (any more)."""

    def __init__(self, run_dir: str, poll: select.epoll, mark: Callable[[str], Mark | None]) -> None:
        self._poll = poll
        self._mark = mark
        self._server = wire.listen(f"{run_dir}/{rundir.LOG_SOCKET}")
        self._poll.register(self._server.fileno(), select.EPOLLIN)
        self._waiting: dict[int, _socket.socket] = {}  # connected, have not said yet what they want
        self._attached: dict[str, list[_socket.socket]] = {}
        self._names: dict[int, str] = {}

    def happened(self, fd: int) -> bool:
        """Whether ``fd`` was one of ours."""
        if fd == self._server.fileno():
            self._accept()
        elif fd in self._waiting:
            self._begin(self._waiting.pop(fd))
        elif fd in self._names:  # a subscriber says nothing more: it is gone
            self._leave(fd)
        else:
            return False
        return True

    def _accept(self) -> None:
        try:
            fd = self._server._accept()[0]  # type: ignore[attr-defined]
        except BlockingIOError:
            return
        connection = _socket.socket(fileno=fd)
        if wire.peer_uid(connection) != os.geteuid():
            connection.close()
            return
        connection.setblocking(False)
        self._waiting[fd] = connection
        self._poll.register(fd, select.EPOLLIN)

    def _begin(self, connection: _socket.socket) -> None:
        name, known = "", False
        try:
            (number, _, name), _ = wire.receive(connection)
            found = self._mark(name)
            wire.send(connection, wire.encode(number, "ok", os.getpid(), found))
            known = found is not None
        except (OSError, EOFError, ValueError):
            known = False
        if not known:
            self._poll.unregister(connection.fileno())
            connection.close()
            return
        self._attached.setdefault(name, []).append(connection)
        self._names[connection.fileno()] = name

    def give(self, name: str, stream: int, data: bytes) -> None:
        """To all that are attached to ``name``."""
        for connection in list(self._attached.get(name, ())):
            pieces = (data[at : at + _PIECE] for at in range(0, len(data), _PIECE))
            self._send(connection, *((0, "data", stream, piece) for piece in pieces))

    def end(self, name: str) -> None:
        """Its output is over."""
        for connection in list(self._attached.get(name, ())):
            self._send(connection, (0, "end"))
            if connection.fileno() >= 0:
                self._leave(connection.fileno())

    def _send(self, connection: _socket.socket, *messages: tuple[Any, ...]) -> None:
        try:
            for message in messages:
                wire.send(connection, wire.encode(*message))
        except OSError:  # it does not keep up, or is gone
            self._leave(connection.fileno())

    def _leave(self, fd: int) -> None:
        name = self._names.pop(fd)
        connection = next(each for each in self._attached[name] if each.fileno() == fd)
        self._attached[name].remove(connection)
        if not self._attached[name]:
            del self._attached[name]
        self._poll.unregister(fd)
        connection.close()


def mark(number: int, size: int, rests: dict[int, bytes]) -> Mark:
    """``rests`` is what is held back by stream."""
    return number, size, rests.get(STDOUT, b""), rests.get(STDERR, b"")
