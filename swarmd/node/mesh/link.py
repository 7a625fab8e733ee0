"""A relayed TCP connection: two ends, and what goes from one to the other, half-close and back-pressure kept.

Bytes are read and written in one go, by way of one buffer for all connections.  What an end does not take is
kept, a buffer's worth at most, and until it has been taken the other end is not read.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
from typing import Protocol

from swarmd.node.network.port import Backend

Socket = socket.SocketType
"""The interpreter's own: what :class:`socket.socket` adds costs a tenth of a short connection."""

OUT = select.EPOLLOUT
WATCHED = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
"""Edges, each told once: a socket is read until it is empty, or when its other end has room again."""

_NO_MORE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_SIZE = 128 << 10
_MOST_READS = 8
_NOW = socket.MSG_DONTWAIT
_LAST = socket.MSG_DONTWAIT | socket.MSG_MORE
_UNDER_WAY = (0, errno.EINPROGRESS)
_RESET = struct.pack("ii", 1, 0)
_buffer = bytearray(_SIZE)
_view = memoryview(_buffer)


class Runner(Protocol):
    """Who watches the sockets of all links."""

    def watch(self, end: End, mask: int) -> None:
        """Call its ``ready`` from now on, or, where that is done already, for ``mask`` instead."""

    def again(self, end: End) -> None:
        """Call its ``pump`` when the others have had their turn."""

    def dispose(self, end: End) -> None:
        """Close its socket, once nothing is left over of what was heard of it."""

    def waits(self, link: Link) -> None:
        """For the backend; call its ``late`` if that takes too long."""

    def reached(self, link: Link) -> None:
        """It waits no longer."""

    def gone(self, link: Link) -> None:
        """Both ends are closed."""


class End:
    """One of the two sockets."""

    __slots__ = (
        "connecting",
        "ended",
        "gone",
        "last",
        "link",
        "number",
        "other",
        "rest",
        "sock",
        "torn",
        "watched",
    )

    def __init__(self, sock: Socket, link: Link) -> None:
        self.sock = sock
        self.number = sock.fileno()
        self.link = link
        self.other = self
        self.rest = b""
        """What it has not taken yet."""
        self.last = False
        """Nothing will come after what can be read now."""
        self.torn = False
        """It was reset: what can be read now does not end, it breaks off."""
        self.ended = False
        """It has said all, and that has been read."""
        self.connecting = False
        """Nobody knows yet whether it is there."""
        self.watched = 0
        self.gone = False
        """Its socket is closed, or will be."""

    def ready(self, mask: int) -> None:
        """The kernel says that something can be done."""
        if mask & _NO_MORE:
            self.torn = bool(mask & select.EPOLLERR)
            self.last = not self.torn
        if mask & OUT and (self.rest or self.connecting):
            self.flush()
        if mask & ~OUT:
            self.pump()

    def pump(self) -> None:
        """Pass on what can be read, as far as the other end takes it."""
        other = self.other
        for _ in range(_MOST_READS):
            if other.rest or self.ended:
                return
            try:
                size = self.sock.recv_into(_buffer, _SIZE, _NOW)
            except BlockingIOError:
                return
            except OSError:
                self.link.broken(self)
                return
            if self.connecting:
                self.link.reached()
            self.ended = not size or (self.last and size < _SIZE)
            if size and not other.send(_view[:size], last=self.ended):
                return
            if self.ended:
                self.link.ended(self)
            if size < _SIZE and not self.torn:
                return
        self.link.runner.again(self)

    def send(self, data: memoryview | bytes, *, last: bool = False) -> bool:
        """Write it, or keep what there is no room for; False: it cannot be written to any more.

        The end follows the ``last`` piece at once, and goes in the same packet.
        """
        try:
            sent = self.sock.send(data, _LAST if last else _NOW)
        except BlockingIOError:
            sent = -1  # which is less than nothing, too
        except OSError:
            self.rest = bytes(data)
            self.link.broken(self)
            return False
        if sent < len(data):
            self.rest = bytes(data[max(sent, 0) :])
            if self.watched == WATCHED:
                self.link.runner.watch(self, WATCHED | OUT)
        elif self.connecting:
            self.link.reached()
        return True

    def flush(self) -> None:
        """Write what was kept; without any this asks whether the end is there."""
        data, self.rest = self.rest, b""
        if not self.send(data) or self.rest or self.connecting:
            return
        if self.other.ended:
            self.link.ended(self.other)
        else:
            self.other.pump()


class Link:
    """A client and a backend.  ``backends``: those that have not been tried yet, best first."""

    __slots__ = ("backend", "backends", "front", "is_open", "runner")

    def __init__(self, runner: Runner, sock: Socket) -> None:
        self.runner = runner
        self.front = End(sock, self)
        self.backends: tuple[Backend, ...] = ()
        self.backend: Backend | None = None
        self.is_open = True

    def start(self, header: bytes) -> None:
        """Connect to a backend, which hears ``header`` before the client's first byte."""
        front = self.front
        try:
            size = front.sock.recv_into(_buffer, _SIZE, _NOW)
        except BlockingIOError:
            size = -1
        except OSError:
            self.cut()
            return
        front.ended = not size
        early = _view[: max(size, 0)]
        self._connect(speaks=bool(early))
        if self.is_open and (early or header):
            front.other.send(header + early if header else early)
        if self.is_open:
            self.runner.watch(front, WATCHED)
            self._await()

    def reached(self) -> None:
        """The backend has answered."""
        self.front.other.connecting = False
        self.runner.reached(self)

    def late(self) -> None:
        """The backend has had its time.  Perhaps it was there, and nobody had anything for it yet."""
        back = self.front.other
        back.flush()
        if back.connecting and back is self.front.other:
            self._next()

    def broken(self, end: End) -> None:
        """It cannot be read or written to.  Another backend is tried while none was reached."""
        if end.connecting:
            self._next()
        else:
            self.cut()

    def ended(self, end: End) -> None:
        """It says no more; the other one may go on until it has ended too."""
        other = end.other
        if other.connecting:
            self._await()
        elif other.rest or (other.ended and end.rest):
            return  # this comes again when that is taken
        elif other.ended:
            self._close()
        else:
            try:
                other.sock.shutdown(socket.SHUT_WR)
            except OSError:
                self.broken(other)

    def lost(self) -> None:
        """The backend's node is dead."""
        self.broken(self.front.other)

    def cut(self) -> None:
        """Close with RST, so that both ends see a failure and not a regular end."""
        for end in {self.front, self.front.other}:
            with contextlib.suppress(OSError):  # whatever state it is in
                end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._close()

    def _close(self) -> None:
        self.is_open = False
        for end in {self.front, self.front.other}:
            self.runner.dispose(end)
        self.runner.gone(self)

    def _connect(self, *, speaks: bool) -> None:
        """Call the first backend that is not out of reach at once; without any the client is reset.

        When the client ``speaks`` first, the last packet of the handshake is what it says.
        """
        while self.backends:
            self.backend, self.backends = self.backends[0], self.backends[1:]
            family = socket.AF_INET6 if ":" in self.backend.address else socket.AF_INET
            try:
                sock = Socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            except OSError:  # out of descriptors
                break
            keep_alive(sock)
            if speaks:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            back = End(sock, self)
            back.connecting = True
            back.other, self.front.other = self.front, back
            if sock.connect_ex((self.backend.address, self.backend.port)) in _UNDER_WAY:
                return
            self.front.other = self.front
            sock.close()
        self.cut()

    def _next(self) -> None:
        """This backend is not to be had: try another one, with what there was to be said."""
        back = self.front.other
        self.front.other = self.front
        self.runner.dispose(back)
        self._connect(speaks=bool(back.rest))
        if self.is_open:
            self.front.other.rest = back.rest
            self._await()

    def _await(self) -> None:
        """Watch the backend's socket.  That it is connected matters only if there is something to say."""
        front, back = self.front, self.front.other
        mask = WATCHED | OUT if back.rest or (back.connecting and front.ended) else WATCHED
        if back.watched != mask:
            self.runner.watch(back, mask)
            if back.connecting:
                self.runner.waits(self)


def keep_alive(sock: Socket) -> None:
    """A silent connection may stay; one whose other end is gone must not hold a place for ever.  Pieces of
    any size go on at once.  What a listening socket has its connections inherit."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
