"""Asks other name servers: one after the other, each question with a number and a port of its own."""

from __future__ import annotations

import asyncio
import socket

from msgspec import Struct

from swarmd.kit.clock import Clock
from swarmd.kit.ids import random_seed
from swarmd.node.dns import sockets
from swarmd.node.dns.core import outside
from swarmd.node.dns.core.wire import Query

SERVER_SECONDS = 2.0
"""How long one server is waited for."""

_PORT = 53
_SLOW_SECONDS = 10.0
"""For so long a server that did not answer is asked last."""

_MOST_REMEMBERED = 4096
_LARGEST = 65535


class Asker(Struct, frozen=True):
    """For whom: ``servers`` (addresses), reached from where ``near`` acts, or from the node itself.

    ``scope`` tells apart the servers of different places.
    """

    servers: tuple[str, ...]
    near: socket.socket | None = None
    scope: str = ""


class Upstream:
    """Name servers outside the swarm, and what they said lately."""

    def __init__(self, clock: Clock, *, port: int = _PORT) -> None:
        self._clock = clock
        self._port = port
        self._slow: dict[tuple[str, str], float] = {}
        self._said: dict[tuple[str, tuple[str, ...], bytes], tuple[float, outside.Reply]] = {}

    async def ask(self, query: Query, asker: Asker, *, by_udp: bool) -> bytes | None:
        """The reply for who asked; None when no server gave one."""
        now = self._clock.monotonic()
        what = (asker.scope, asker.servers, outside.key(query))
        if (known := self._said.get(what)) is not None:
            age = int(now - known[0])
            if age < known[1].seconds:
                return self._made_out(outside.aged(known[1], age), query, by_udp)
            del self._said[what]
        message = await self._first(query, asker, by_udp)
        if message is None:
            return None
        if (reply := outside.remembered(message)) is not None:
            if len(self._said) >= _MOST_REMEMBERED:
                self._said.pop(next(iter(self._said)))
            self._said[what] = (self._clock.monotonic(), reply)
        return self._made_out(message, query, by_udp)

    def _made_out(self, message: bytes, query: Query, by_udp: bool) -> bytes:
        made = outside.addressed(message, query)
        return outside.shortened(made, query) if by_udp else made

    async def _first(self, query: Query, asker: Asker, by_udp: bool) -> bytes | None:
        """The first useful reply, else one that says it is of no use."""
        now = self._clock.monotonic()
        useless: bytes | None = None
        for server in sorted(asker.servers, key=lambda each: self._slow.get((asker.scope, each), 0.0) > now):
            try:
                async with asyncio.timeout(SERVER_SECONDS):
                    message = await self._exchange(query, server, asker.near, by_udp)
            except (OSError, TimeoutError):
                self._slow = {known: until for known, until in self._slow.items() if until > now}
                self._slow[asker.scope, server] = self._clock.monotonic() + _SLOW_SECONDS
                continue
            if outside.is_useful(message):
                return message
            useless = message
        return useless

    async def _exchange(self, query: Query, server: str, near: socket.socket | None, by_udp: bool) -> bytes:
        message = await self._by_udp(query, server, near)
        if outside.is_cut(message) and not by_udp:
            return await self._by_tcp(query, server, near)
        return message

    async def _by_udp(self, query: Query, server: str, near: socket.socket | None) -> bytes:
        loop = asyncio.get_running_loop()
        with await _open(socket.SOCK_DGRAM, server, near) as sock:
            sock.connect((server, self._port))
            ident = random_seed() & 0xFFFF
            sock.send(outside.question(query, ident))
            while True:
                message = await loop.sock_recv(sock, _LARGEST)
                if outside.answers(query, ident, message):
                    return message

    async def _by_tcp(self, query: Query, server: str, near: socket.socket | None) -> bytes:
        loop = asyncio.get_running_loop()
        with await _open(socket.SOCK_STREAM, server, near) as sock:
            await loop.sock_connect(sock, (server, self._port))
            ident = random_seed() & 0xFFFF
            asked = outside.question(query, ident)
            await loop.sock_sendall(sock, len(asked).to_bytes(2, "big") + asked)
            size = int.from_bytes(await _exactly(sock, 2), "big")
            message = await _exactly(sock, size)
            if not outside.answers(query, ident, message):
                raise OSError(f"{server} answers something else")
            return message


async def _open(kind: socket.SocketKind, server: str, near: socket.socket | None) -> socket.socket:
    if near is not None:
        return await asyncio.to_thread(sockets.open_towards, near, kind, server)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    return socket.socket(family, kind | socket.SOCK_NONBLOCK)


async def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await asyncio.get_running_loop().sock_recv(sock, size - len(data))
        if not more:
            raise OSError("the connection ended within an answer")
        data += more
    return data
