"""Passes TCP connections on: two protocols that write to each other, half-close and back-pressure kept."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import cast

from swarmd.node.mesh.core.choice import Peer
from swarmd.node.network.port import Backend

CONNECT_SECONDS = 2.0

Choose = Callable[[Peer], tuple[Backend, ...]]
"""Answers the backends to try for a client, best first."""
Header = Callable[[Peer, Peer], bytes]
"""(client, the address it called) → what the backend is told first."""
Start = Callable[["Client"], None]


class Side(asyncio.Protocol):
    """One end of a forwarded connection.  What comes in here goes out at the ``other`` side."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Side | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        _keep_alive(transport)

    def data_received(self, data: bytes) -> None:
        if self.other and self.other.transport:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """This end says no more; the other may go on until it has finished too."""
        self._ended = True
        if not self.other or self.other._ended:
            self.finish()
            return False
        transport = self.other.transport
        if transport and not transport.is_closing():
            transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other and self.other.transport and not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other and self.other.transport and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        other = self.other
        if not other or not other.transport:
            return
        if exc:
            reset(other.transport)
        else:
            other.transport.close()

    def finish(self) -> None:
        """Close both ends after what is still buffered."""
        for side in (self, self.other):
            if side and side.transport:
                side.transport.close()


class Client(Side):
    """The accepted end.  What it says before a backend is connected is kept, one read's worth at most.

    It is not paused from the start: uvloop begins to read after ``connection_made`` whatever that did.
    """

    def __init__(self, start: Start, gone: Callable[[Client], None]) -> None:
        super().__init__()
        self._start = start
        self._gone = gone
        self._early: list[bytes] = []
        self.backend: Backend | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._start(self)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            super().data_received(data)
            return
        self._early.append(data)
        if self.transport:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        if self.other is not None:
            return super().eof_received()
        self._ended = True
        return True

    def names(self) -> tuple[Peer, Peer] | None:
        """(the client, the address it called); nothing when it has gone already."""
        if self.transport is None:
            return None
        client, called = (self.transport.get_extra_info(name) for name in ("peername", "sockname"))
        return (client[:2], called[:2]) if client and called else None

    def join(self, side: Side, backend: Backend, header: bytes = b"") -> None:
        """From now on the two ends talk; a client that has gone meanwhile takes the backend's end along."""
        if self.transport is None or self.transport.is_closing() or side.transport is None:
            for transport in (self.transport, side.transport):
                if transport:
                    transport.abort()
            return
        self.backend, self.other, side.other = backend, side, self
        if header:
            side.transport.write(header)
        for data in self._early:
            side.transport.write(data)
        self._early.clear()
        if self._ended:
            side.transport.write_eof()
        else:
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._gone(self)


async def forward(client: Client, choose: Choose, header: Header) -> None:
    """Connect ``client`` to the first backend that answers; without any the client's connection is reset."""
    loop = asyncio.get_running_loop()
    names = client.names()
    for backend in choose(names[0]) if names else ():
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, side = await loop.create_connection(Side, backend.address, backend.port)
        except (OSError, TimeoutError):
            continue
        client.join(side, backend, header(*names) if names else b"")
        return
    if client.transport:
        reset(client.transport)


def _keep_alive(transport: asyncio.BaseTransport) -> None:
    """A silent connection may stay; one whose other end is gone must not hold a place for ever."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def reset(transport: asyncio.Transport) -> None:
    """Close with RST, so that the other end sees a failure and not a regular end."""
    handle = transport.get_extra_info("socket")
    number = handle.fileno() if handle is not None else -1
    if number >= 0:
        with socket.socket(fileno=os.dup(number)) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
