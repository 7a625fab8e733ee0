"""A registry that does what a test tells it to, over real HTTP on loopback, also what no registry should."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple


class Asked(NamedTuple):
    """A request; names of headers in lower case, ``path`` with its query."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """``length``: what Content-Length says, if it is not the body's own; ``cut``: hang up after the body;
    ``endless``: send the body again and again."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})
    length: int | None = None
    cut: bool = False
    endless: bool = False


Behave = Callable[[Asked], Answer]


class ScriptedRegistry:
    """``asked``: all requests.  ``behave`` may be replaced at any time."""

    def __init__(self, behave: Behave) -> None:
        self.behave = behave
        self.asked: list[Asked] = []
        self.port = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def seen(self, method: str) -> list[str]:
        """Paths of requests of one method."""
        return [one.path for one in self.asked if one.method == method]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        start = await reader.readexactly(1)
        if start == b"\x16":
            return False  # somebody tries TLS first, as Docker does on loopback
        head = start + await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = Asked(method, path, headers, body)
        self.asked.append(asked)
        answer = self.behave(asked)
        length = len(answer.body) if answer.length is None else answer.length
        out = [f"HTTP/1.1 {answer.status} Word", *(f"{k}: {v}" for k, v in answer.headers.items())]
        if not answer.endless:
            out.append(f"Content-Length: {length}")
        writer.write(("\r\n".join(out) + "\r\n\r\n").encode())
        if method != "HEAD":
            writer.write(answer.body)
        await writer.drain()
        while answer.endless:
            writer.write(answer.body)
            await writer.drain()
        return not answer.cut


@contextlib.asynccontextmanager
async def registry(behave: Behave) -> AsyncIterator[ScriptedRegistry]:
    """One that listens."""
    made = ScriptedRegistry(behave)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


class Holding:
    """What an honest registry does with blobs and manifests; tests wrap it."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}

    def __call__(self, asked: Asked) -> Answer:
        path = asked.path.partition("?")[0]
        kind, _, name = path.rpartition("/")
        if asked.method in ("GET", "HEAD") and kind.endswith("/manifests") and name in self.manifests:
            media_type, raw = self.manifests[name]
            return Answer(200, raw, {"Content-Type": media_type})
        if asked.method in ("GET", "HEAD") and kind.endswith("/blobs") and name in self.blobs:
            return part(asked, self.blobs[name])
        if path == "/v2/":
            return Answer()
        return Answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')


def part(asked: Asked, blob: bytes) -> Answer:
    """A blob, or the part of it that a Range asks for."""
    wanted = asked.headers.get("range", "").removeprefix("bytes=")
    if not wanted:
        return Answer(200, blob, {"ETag": '"it"'})
    start, _, end = wanted.partition("-")
    piece = blob[int(start) : int(end) + 1]
    return Answer(206, piece, {"Content-Range": f"bytes {start}-{end}/{len(blob)}"})
