"""A gRPC client that costs next to nothing: unary calls over one connection, bytes in and out.

It says the same header bytes for each call and reads no header of the answers, so that a load it makes
measures the server.  A call succeeded when a message came back; whatever else is an error.
"""

from __future__ import annotations

import asyncio
import ssl
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_WINDOW_BYTES = 1 << 30
_FRAME_HEAD = 9
_MESSAGE_HEAD = 5


class CallFailed(Exception):
    """The server answered with no message, or went away."""


class Connection(asyncio.Protocol):
    """Calls may overlap.  Made by :func:`dial` and :func:`dial_unix`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._next = 1
        self._unacknowledged = 0
        self._calls: dict[int, tuple[asyncio.Future[bytes], bytearray]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        settings = struct.pack(">HIHI", 2, 0, 4, _WINDOW_BYTES)
        window = struct.pack(">I", _WINDOW_BYTES)
        transport.write(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW, 0, 0, window))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        calls, self._calls = self._calls, {}
        for future, _ in calls.values():
            if not future.done():
                future.set_exception(CallFailed("the connection broke"))

    async def call(self, headers: bytes, message: bytes) -> bytes:
        """The answer to ``message``; ``headers`` are those of :func:`headers_of`.  Raises CallFailed."""
        if self._transport is None:
            raise CallFailed("the connection is gone")
        stream, self._next = self._next, self._next + 2
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._calls[stream] = future, bytearray()
        body = b"\0" + struct.pack(">I", len(message)) + message
        self._transport.write(
            _frame(_HEADERS, _END_HEADERS, stream, headers) + _frame(_DATA, _END_STREAM, stream, body)
        )
        return await future

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        start, have = 0, len(self._buffer)
        while have - start >= _FRAME_HEAD:
            end = start + _FRAME_HEAD + int.from_bytes(self._buffer[start : start + 3], "big")
            if end > have:
                break
            kind, flags = self._buffer[start + 3], self._buffer[start + 4]
            stream = int.from_bytes(self._buffer[start + 5 : start + 9], "big")
            self._take(kind, flags, stream, bytes(self._buffer[start + _FRAME_HEAD : end]))
            start = end
        del self._buffer[:start]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        assert self._transport is not None
        if kind == _DATA and payload:
            if stream in self._calls:
                self._calls[stream][1].extend(payload)
            self._count(len(payload))
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self._transport.write(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind == _GOAWAY:
            self._transport.abort()
        if (kind in (_DATA, _HEADERS) and flags & _END_STREAM) or kind == _RESET:
            self._end(stream)

    def _count(self, size: int) -> None:
        """Open the connection's window again, now and then."""
        self._unacknowledged += size
        if self._unacknowledged > _WINDOW_BYTES // 4 and self._transport is not None:
            self._transport.write(_frame(_WINDOW, 0, 0, struct.pack(">I", self._unacknowledged)))
            self._unacknowledged = 0

    def _end(self, stream: int) -> None:
        future, body = self._calls.pop(stream, (None, bytearray()))
        if future is None or future.done():
            return
        if len(body) < _MESSAGE_HEAD:
            future.set_exception(CallFailed("the server answered with an error"))
        else:
            future.set_result(bytes(body[_MESSAGE_HEAD:]))


async def dial(port: int, context: ssl.SSLContext, name: str) -> Connection:
    """Over TLS to a server on this machine whose certificate names ``name``.  Raises OSError."""
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(Connection, "127.0.0.1", port, ssl=context, server_hostname=name)
    return made


async def dial_unix(path: str) -> Connection:
    """To a daemon's own socket.  Raises OSError."""
    _, made = await asyncio.get_running_loop().create_unix_connection(Connection, path)
    return made


def headers_of(path: str, authority: str = "localhost") -> bytes:
    """The header block of a call, without references to anything said before."""
    pairs = {
        ":method": "POST", ":scheme": "https", ":path": path, ":authority": authority,
        "te": "trailers", "content-type": "application/grpc",
    }  # fmt: skip
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in pairs.items())


def _text(text: str) -> bytes:
    raw = text.encode()
    assert len(raw) < 127  # one byte of length, no Huffman code
    return bytes([len(raw)]) + raw


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
