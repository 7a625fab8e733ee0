"""One shared port: its sockets, its routes, its clients."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Mapping
from typing import cast

from swarmd.kit.supervise import Report
from swarmd.node.network.port import HttpRoute
from swarmd.node.router.certificates import Certificates
from swarmd.node.router.client import Client
from swarmd.node.router.core.match import Table, table
from swarmd.node.router.core.request import Line
from swarmd.node.router.exchange import Exchange, Parts
from swarmd.node.router.handshakes import Handshakes
from swarmd.node.router.http1 import HEAD_SECONDS, Http1
from swarmd.node.router.http2 import Http2
from swarmd.node.router.talk import NEVER, Talk, expire

_BACKLOG = 1024
_PREFACE = b"PRI "
_TLS, _PLAIN = "https", "http"


class Listener:
    """A port, open from :meth:`open` to :meth:`close`."""

    def __init__(self, port: int, parts: Parts, most: int) -> None:
        """``most``: clients at a time, and handshakes beside them; more are closed as they come."""
        self.port = port
        self.certificates = Certificates()
        self.is_tls = False
        self._parts = parts
        self._most = most
        self._table = Table()
        self._turn = 0
        self._servers: list[asyncio.Server] = []
        self._handshakes: Handshakes | None = None
        self._clients: set[Http1 | Http2 | _Door] = set()

    async def open(self, *, tls: bool) -> None:
        """Raises OSError when the port is somebody else's."""
        self.is_tls = tls
        if tls:
            self._handshakes = Handshakes(
                self._parts.nursery.start, self.certificates.front, lambda: _Door(self), self._most
            )
        for sock in _bound(self.port):
            if self._handshakes is not None:
                self._handshakes.open(sock)
            else:
                loop = asyncio.get_running_loop()
                server = await loop.create_server(lambda: _Door(self), sock=sock, backlog=_BACKLOG)
                self._servers.append(server)

    def update(self, routes: tuple[HttpRoute, ...], pems: Mapping[str, bytes]) -> None:
        """From the next request on."""
        self._table = table(routes)
        self.certificates.update(routes, pems)

    def close(self, *, now: bool = False) -> None:
        """Take no more clients; what is under way may end, unless that is ``now``."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._handshakes is not None:
            self._handshakes.close()
        for client in list(self._clients):
            if now or isinstance(client, _Door):
                client.abort()
            elif isinstance(client, Http2):
                client.finish()
            elif client.is_waiting:
                client.close()
            else:
                client.closing = True

    @property
    def has_clients(self) -> bool:
        return bool(self._clients)

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    def sweep(self, now: float, report: Report) -> None:
        """To be called every second: ends what waited too long."""
        expire(self._clients, now, report)

    async def serve(self, client: Client) -> None:
        """Answer one request."""
        self._turn += 1
        await Exchange(self._parts, self._table, client, self._turn).run()

    # -- for doors -------------------------------------------------------------------------------

    def enter(self, door: _Door) -> bool:
        """A client has connected; False: there are too many."""
        if len(self._clients) >= self._most:
            return False
        self._clients.add(door)
        door.deadline = self._parts.now() + HEAD_SECONDS
        return True

    def leave(self, client: Talk | Http2 | _Door) -> None:
        self._clients.discard(cast("Http1", client))

    def speak(self, door: _Door, transport: asyncio.Transport, client: str, *, http2: bool) -> Http1 | Http2:
        """The protocol that a client has chosen takes the place of the door."""
        line = Line(_TLS if self.is_tls else _PLAIN, client, self.port)
        kind = Http2 if http2 else Http1
        made = kind(line, self.serve, self._parts.nursery.start, self._parts.now, self.leave)
        self._clients.discard(door)
        self._clients.add(made)
        transport.set_protocol(made)
        made.connection_made(transport)
        return made


class _Door(asyncio.Protocol):
    """A client that has not said yet which version of HTTP it speaks."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._client = ""
        self.deadline = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._listener.enter(self):
            self._transport.abort()
            return
        peer = transport.get_extra_info("peername")
        self._client = str(peer[0]).removeprefix("::ffff:") if peer else ""
        secured = transport.get_extra_info("ssl_object")
        if secured is not None:
            chosen = secured.selected_alpn_protocol()
            self._listener.speak(self, self._transport, self._client, http2=chosen == "h2")

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        made = self._listener.speak(self, self._transport, self._client, http2=data.startswith(_PREFACE))
        made.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.leave(self)

    def expire(self) -> None:
        self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _bound(port: int) -> list[socket.socket]:
    """Listening sockets on all addresses of both families, as far as the machine has both."""
    found: list[socket.socket] = []
    try:
        found.append(_socket(socket.AF_INET, "0.0.0.0", port))
        with contextlib.suppress(_NoSuchFamily):
            found.append(_socket(socket.AF_INET6, "::", port))
    except OSError:
        for sock in found:
            sock.close()
        raise
    return found


class _NoSuchFamily(Exception):
    """This machine has no IPv6."""


def _socket(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _NoSuchFamily from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if family == socket.AF_INET6 and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise _NoSuchFamily from error
        raise
    return sock
