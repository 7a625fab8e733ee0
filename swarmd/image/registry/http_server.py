"""The door to HTTP/1.1 of the registry, and of metrics: requests come in, replies go out.

The only file that knows aiohttp's server.  Bodies are read in batches, so that the
thread that hashes and writes is called once for a megabyte; a client that says nothing, or takes nothing, for
two minutes is cut off.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from io import FileIO

from aiohttp import ClientError, HttpVersion11, web

from swarmd.image.registry.exchange import Handle, Reply, Request
from swarmd.model.errors import Unavailable

BATCH = 1 << 20
_PIECE = 1 << 20
_SILENCE = 120.0
_KEEP_ALIVE = 75.0
_LINGER = 2.0
_CLOSING = 2.0


class HttpServer:
    """One handler, behind as many addresses as are opened."""

    def __init__(self, handle: Handle, name: str = "the registry") -> None:
        """``name``: what people are told that cannot listen."""
        self._handle = handle
        self._name = name
        self._runner: web.ServerRunner | None = None

    async def open(self, host: str, port: int, context: ssl.SSLContext | None = None) -> int:
        """Listen; answers the port, which the kernel chooses for 0.

        Raises Unavailable when the address is taken or not this machine's.
        """
        if self._runner is None:
            server = web.Server(
                self._serve,
                access_log=None,
                keepalive_timeout=_KEEP_ALIVE,
                lingering_time=_LINGER,
                read_bufsize=BATCH,
                auto_decompress=False,
            )
            self._runner = web.ServerRunner(server, shutdown_timeout=_CLOSING)
            await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=context, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            why = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
            raise Unavailable(f"{self._name} cannot listen on {host}:{port}: {why}") from error
        return int(self._runner.addresses[-1][1])

    async def close(self) -> None:
        """Stop listening; what is under way has two seconds."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        reply = await self._handle(_translated(request))
        if reply.file is not None:
            try:
                file = reply.file.open("rb", buffering=0)
            except FileNotFoundError:
                return web.Response(status=404, text="the blob was removed a moment ago")
            with file:
                return await _send_file(request, reply, file)
        response = web.Response(status=reply.status, body=reply.body or None)
        _dress(response, reply)
        if reply.length >= 0:
            response.headers["Content-Length"] = str(reply.length)
        return response


def _translated(request: web.BaseRequest) -> Request:
    headers = {key.lower(): value for key, value in request.headers.items()}
    url = request.rel_url
    has_body = request.body_exists
    return Request(
        method=request.method,
        path=url.raw_path,
        query=tuple(url.query.items()),
        headers=headers,
        length=(request.content_length if has_body else 0),
        body=lambda: _body(request),
    )


async def _body(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """In batches; raises Unavailable when the client is gone or says nothing any more."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    gathered: list[bytes] = []
    size = 0
    while piece := await _next(request):
        gathered.append(piece)
        size += len(piece)
        if size >= BATCH:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


async def _next(request: web.BaseRequest) -> bytes:
    try:
        async with asyncio.timeout(_SILENCE):
            return await request.content.readany()
    except TimeoutError as error:
        raise Unavailable(f"nothing came for {_SILENCE:.0f} seconds") from error
    except (ClientError, web.PayloadAccessError, ConnectionError) as error:
        raise Unavailable(f"the connection was cut: {error}") from error


def _dress(response: web.StreamResponse, reply: Reply) -> None:
    response.headers["Server"] = "swarmd"
    for key, value in reply.headers:
        if key in response.headers and key != "Content-Type":
            response.headers.add(key, value)
        else:
            response.headers[key] = value


async def _send_file(request: web.BaseRequest, reply: Reply, file: FileIO) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status)
    _dress(response, reply)
    response.content_length = reply.part.size
    await response.prepare(request)
    file.seek(reply.part.offset)
    left = reply.part.size
    while left > 0:
        piece = await asyncio.to_thread(file.read, min(_PIECE, left))
        if not piece:
            raise ConnectionResetError("the blob is shorter than it was")
        left -= len(piece)
        try:
            async with asyncio.timeout(_SILENCE):
                await response.write(piece)
        except TimeoutError as error:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the client takes nothing") from error
    await response.write_eof()
    return response
