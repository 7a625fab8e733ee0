"""Messages between daemon, spawner and log pump: one marshalled tuple per SOCK_SEQPACKET packet.

``(number, operation, *arguments)`` asks; ``(number, "ok" | "error", *values)`` answers; number 0 is an
event nobody answers.  The file loads light modules only, because the spawner uses it.
"""

from __future__ import annotations

import _socket
import array
import marshal
import os
import struct

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
MAX_PACKET = 64 * 1024
_FDS = 4


class ignoring:  # noqa: N801 - it reads like the one of contextlib, whose import costs too much here
    """``contextlib.suppress``, without its imports."""

    def __init__(self, *errors: type[BaseException]) -> None:
        self._errors = errors

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, self._errors)


def listen(path: str) -> _socket.socket:
    """A listening socket only this user can reach; a left-over of a dead process is replaced."""
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_NONBLOCK)
    if os.path.exists(path):
        os.unlink(path)
    before = os.umask(0o177)
    try:
        server.bind(path)
    finally:
        os.umask(before)
    server.listen(64)
    return server


def peer_uid(connection: _socket.socket) -> int:
    raw = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", raw)[1])


def encode(*message: Any) -> bytes:
    """:class:`ValueError` if it does not fit into a packet."""
    packet = marshal.dumps(message)
    if len(packet) > MAX_PACKET:
        raise ValueError(f"message of {len(packet)} bytes; at most {MAX_PACKET} fit")
    return packet


def send(connection: _socket.socket, packet: bytes, fds: tuple[int, ...] = ()) -> None:
    """:class:`BlockingIOError` when the peer does not keep up."""
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    connection.sendmsg([packet], rights, _socket.MSG_NOSIGNAL)


def receive(connection: _socket.socket) -> tuple[tuple[Any, ...], list[int]]:
    """One message and the descriptors that came with it.

    :class:`EOFError` when the peer is gone, :class:`BlockingIOError` when there is nothing.
    """
    space = _socket.CMSG_SPACE(_FDS * 4)
    data, ancillary, flags, _ = connection.recvmsg(MAX_PACKET, space, _socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, raw in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds.extend(array.array("i", raw[: len(raw) // 4 * 4]))
    try:
        if not data:
            raise EOFError
        if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC):
            raise ValueError("truncated message")
        message = marshal.loads(data)
        if not isinstance(message, tuple) or len(message) < 2:
            raise ValueError("not a message")
    except Exception:
        for fd in fds:
            os.close(fd)
        raise
    return message, fds
