"""A user-space proxy on loopback, with backends and clients, on asyncio's own loop and on uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest
import uvloop

from swarmd.kit.clock import SystemClock
from swarmd.node.mesh.core.published import PortKey, key_of
from swarmd.node.mesh.proxy import Proxy
from swarmd.node.network.port import Backend, PublishedPort, Transport

HERE = "127.0.0.1"


def fail(name: str, error: BaseException) -> None:
    raise AssertionError(f"{name}: {error!r}")


def on_both_loops(test: Callable[[Proxy], Coroutine[None, None, None]]) -> Callable[..., None]:
    """Run the test, given a proxy that is closed afterwards, once on each kind of event loop."""

    async def whole() -> None:
        proxy = Proxy(SystemClock(), fail)
        try:
            await test(proxy)
        finally:
            await proxy.close()

    def both(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(whole())

    both.__name__, both.__doc__ = test.__name__, test.__doc__
    loops = [
        pytest.param(asyncio.new_event_loop, id="asyncio"),
        pytest.param(uvloop.new_event_loop, id="uvloop"),
    ]
    return pytest.mark.parametrize("loop", loops)(both)


_ports = itertools.cycle(range(20_000 + os.getpid() % 100 * 100, 32_000))


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """One that the kernel gives to nobody by itself, so that it is still free a moment later."""
    for port in itertools.islice(_ports, 12_000):
        with socket.socket(socket.AF_INET, kind) as sock, contextlib.suppress(OSError):
            sock.bind(("", port))  # free on every address, also of what waits for its end
            return port
    raise AssertionError("no port is free")


def published(port: int, *backends: int, protocol: Transport = "tcp", **more: Any) -> PublishedPort:
    made = tuple(Backend(task_id=f"t{b}", address=HERE, port=b, node_id=f"n{b}") for b in backends)
    return PublishedPort(
        service_id="s", service_name="s", protocol=protocol, port=port, backends=made, **more
    )


async def update(proxy: Proxy, ports: Sequence[PublishedPort]) -> frozenset[PortKey]:
    """Serve exactly these."""
    changes: dict[PortKey, PublishedPort | None] = dict.fromkeys(proxy.served())
    return await proxy.update({**changes, **{key_of(port): port for port in ports}})


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def backend(serve: Serve) -> AsyncIterator[int]:
    """A server on a port of its own."""

    async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(whole, HERE, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def says(name: str) -> Serve:
    """Reads to the end of input, then answers with its name and how much it read."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()
        writer.write(f"{name} {len(data)}".encode())

    return serve


async def connected(host: str, port: int, source: str | None) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setblocking(False)
    if source:  # so that the connection's end does not keep others from the port
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((source, 0))
    try:
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except OSError:
        sock.close()
        raise
    return sock


async def ask(port: int, data: bytes = b"hello", *, host: str = HERE, source: str | None = None) -> str:
    """Send, half-close, read to the end."""
    reader, writer = await asyncio.open_connection(sock=await connected(host, port, source))
    writer.write(data)
    writer.write_eof()
    answer = (await reader.read()).decode()
    writer.close()
    return answer


async def until(check: Callable[[], object]) -> None:
    """Wait until it holds; the caller sets a limit."""
    while not check():  # noqa: ASYNC110 - nobody announces what a proxy has done
        await asyncio.sleep(0.01)
