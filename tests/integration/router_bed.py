"""A router on a free port of this machine, and web servers behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

from aiohttp import WSMsgType, web

from swarmd.kit.clock import Clock, SystemClock
from swarmd.node.network.port import Backend, Certificate, HttpRoute
from swarmd.node.router.client import Line
from swarmd.node.router.router import Router
from tests.unit.proxied import free_port

Raw = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Rig:
    """``async with``: everything that was started ends."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.failures: list[str] = []
        self.lines: list[Line] = []
        self.router = Router(clock or SystemClock(), self._failed, self.lines.append)
        self.port = free_port()
        self._ends: list[Callable[[], Awaitable[object]]] = []

    def _failed(self, name: str, error: BaseException) -> None:
        self.failures.append(f"{name}: {error!r}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.router.close()
        for end in reversed(self._ends):
            await end()

    async def app(self, name: str) -> Backend:
        """A task that tells who it is and what it got; ``/big?N`` has N MiB, ``/ws`` echoes, ``/slow`` waits
        for :attr:`go`."""
        self.go = asyncio.Event()
        self.began = asyncio.Event()

        async def handle(request: web.Request) -> web.StreamResponse:
            if request.path == "/ws":
                return await _echo(request)
            if request.path == "/big":
                return await _big(request)
            if request.path == "/slow":
                self.began.set()
                await self.go.wait()
            size = 0
            async for piece in request.content.iter_any():
                size += len(piece)
            said = {key.lower(): value for key, value in request.headers.items()}
            return web.json_response({"task": name, "path": request.path_qs, "size": size, "headers": said})

        server = web.Server(handle)
        runner = web.ServerRunner(server)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._ends.append(runner.cleanup)
        return Backend(name, "127.0.0.1", int(runner.addresses[0][1]), "n1")

    async def raw(self, name: str, talk: Raw) -> Backend:
        """A task that does what no good server does."""
        server = await asyncio.start_server(talk, "127.0.0.1", 0)

        async def end() -> None:
            server.close()

        self._ends.append(end)
        return Backend(name, "127.0.0.1", int(server.sockets[0].getsockname()[1]), "n1")

    async def serve(self, *routes: HttpRoute, certificates: tuple[Certificate, ...] = ()) -> None:
        await self.router.update(routes, certificates)

    def route(self, host: str, *backends: Backend, path: str = "/", tls: str = "") -> HttpRoute:
        return HttpRoute(f"id-{host}", f"service-{host}", self.port, host, path, tls, backends)

    async def curl(
        self, url: str, *options: str, stdin: bytes = b"", address: str = "127.0.0.1"
    ) -> tuple[int, bytes]:
        """Exit code and what it prints; ``url`` is the host and what follows it."""
        scheme, _, rest = url.partition("://")
        host, slash, path = rest.partition("/")
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", "--max-time", "60", "--connect-to", f"::{address}:{self.port}", *options,
            f"{scheme}://{host}{slash}{path}",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate(stdin)
        return process.returncode or 0, out

    async def talk(self, data: bytes) -> bytes:
        """All that comes back when ``data`` is sent on a connection of its own, until it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        try:
            return await asyncio.wait_for(reader.read(), 60)
        finally:
            writer.close()


async def _echo(request: web.Request) -> web.WebSocketResponse:
    answer = web.WebSocketResponse()
    await answer.prepare(request)
    async for message in answer:
        if message.type is WSMsgType.TEXT:
            await answer.send_str(f"echo {message.data}")
    return answer


async def _big(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(int(request.query_string)):
        await answer.write(bytes(1 << 20))
    await answer.write_eof()
    return answer
