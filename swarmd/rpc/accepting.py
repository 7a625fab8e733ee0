"""A connection that was accepted: its socket, its TLS handshake, and why that failed."""

from __future__ import annotations

import asyncio
import socket
import ssl

_SILENCE_SECONDS = 30


def notice_silence(connection: socket.socket) -> None:
    """A machine that vanished, or takes nothing, is no reason to keep a connection."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENCE_SECONDS // 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _SILENCE_SECONDS // 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_SECONDS * 1000)


async def open_server_side(
    connection: socket.socket, context: ssl.SSLContext, *, limit: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The TLS handshake as the server, within ``limit`` seconds.  Raises OSError (ssl.SSLError is one)."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_accepted_socket(
        lambda: protocol, connection, ssl=context, ssl_handshake_timeout=limit
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def handshake_failure(error: ssl.SSLError) -> str:
    """What was wrong with the other end; empty when it only went away."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ""
    why = getattr(error, "verify_message", "") or (error.reason or "").replace("_", " ").lower()
    return f"the TLS handshake failed: {why or 'unknown'}"
