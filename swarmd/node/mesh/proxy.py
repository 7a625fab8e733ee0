"""The user-space side of every published port: reservation, localhost, and all traffic without nftables.

Each port is bound on all addresses for as long as it is published, so no other program can take it and one
that has it already is found out.  While a TCP port has no backend it is bound but does not listen: the kernel
itself refuses connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
from collections.abc import Collection, Iterable

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery, Report
from swarmd.node.mesh.core.table import PortKey
from swarmd.node.mesh.tcp import Client, forward, reset
from swarmd.node.mesh.udp import Flow, UdpPort
from swarmd.node.network.port import Backend, PublishedPort

_BACKLOG = 1024
_SPARE_DESCRIPTORS = 256


class _Turn:
    """Round robin: each call starts one backend further."""

    def __init__(self) -> None:
        self.backends: tuple[Backend, ...] = ()
        self._next = 0

    def choose(self) -> tuple[Backend, ...]:
        if not self.backends:
            return ()
        self._next = (self._next + 1) % len(self.backends)
        return self.backends[self._next :] + self.backends[: self._next]


class _Tcp:
    """One reserved TCP port, and its server while there are backends."""

    def __init__(self, port: int, proxy: Proxy) -> None:
        self.turn = _Turn()
        self._proxy = proxy
        self._server: asyncio.Server | None = None
        self._socket = _reserve_tcp(port)

    async def update(self, backends: tuple[Backend, ...]) -> None:
        self.turn.backends = backends
        if backends and self._server is None:
            loop = asyncio.get_running_loop()
            _reuse(self._socket, True)
            self._server = await loop.create_server(self._accept, sock=self._socket.dup(), backlog=_BACKLOG)
        elif not backends and self._server is not None:
            self._server.close()
            self._server = None
            _stop_listening(self._socket)

    def _accept(self) -> Client:
        return self._proxy.accept(self.turn)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            _stop_listening(self._socket)
        self._socket.close()


class _Udp:
    """One reserved UDP port."""

    def __init__(self, port: int, proxy: Proxy) -> None:
        self.turn = _Turn()
        self.port = UdpPort(self.turn.choose, proxy.open_flow, proxy.now)
        self._socket: socket.socket | None = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind(("0.0.0.0", port))
        except OSError:
            self._socket.close()
            raise

    async def update(self, backends: tuple[Backend, ...]) -> None:
        self.turn.backends = backends
        self.port.keep_only(backends)
        if self._socket is not None:
            self._socket.setblocking(False)
            mine, self._socket = self._socket, None
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: self.port, sock=mine)

    def close(self) -> None:
        self.port.close()
        if self._socket is not None:
            self._socket.close()


class Proxy:
    """All published ports of this node.  ``report`` hears of failures that have no caller."""

    def __init__(self, clock: Clock, report: Report) -> None:
        self._clock = clock
        self._nursery = Nursery(report)
        self._ports: dict[PortKey, _Tcp | _Udp] = {}
        self._taken: dict[PortKey, str] = {}
        self._clients: set[Client] = set()
        self._limit = max(64, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_DESCRIPTORS) // 2)

    async def update(self, ports: Iterable[PublishedPort]) -> frozenset[PortKey]:
        """Serve exactly these ports; answers those that another program holds (they are tried each time)."""
        wanted: dict[PortKey, PublishedPort] = {(port.protocol, port.port): port for port in ports}
        for key in [key for key in self._ports if key not in wanted]:
            self._ports.pop(key).close()
        self._taken = {}
        for key, port in wanted.items():
            served = self._ports.get(key) or self._reserve(key)
            if served is not None:
                self._ports[key] = served
                await served.update(port.backends)
        return frozenset(self._taken)

    def taken(self) -> tuple[str, ...]:
        """A sentence for each port that another program holds."""
        return tuple(self._taken[key] for key in sorted(self._taken))

    def drop(self, node_ids: Collection[str]) -> None:
        """Reset the connections to backends on these nodes: nobody will ever answer them."""
        for client in list(self._clients):
            if client.backend and client.backend.node_id in node_ids and client.transport:
                reset(client.transport)

    def expire(self) -> None:
        """Forget UDP clients that have been silent; to be called every few seconds."""
        for served in self._ports.values():
            if isinstance(served, _Udp):
                served.port.expire()

    async def close(self) -> None:
        """Give every port back and end every connection."""
        for served in self._ports.values():
            served.close()
        self._ports.clear()
        for client in list(self._clients):
            if client.transport:
                client.transport.abort()
        await self._nursery.close()

    def accept(self, turn: _Turn) -> Client:
        """The protocol for one more TCP client; above the descriptor limit it is refused when it arrives."""
        full = len(self._clients) >= self._limit

        def start(client: Client) -> None:
            self._nursery.start("proxy connection", forward(client, tuple if full else turn.choose))

        client = Client(start, self._clients.discard)
        self._clients.add(client)
        return client

    def open_flow(self, flow: Flow, client: tuple[str, int]) -> None:
        self._nursery.start("proxy flow", flow.open(client))

    def now(self) -> float:
        return self._clock.monotonic()

    def _reserve(self, key: PortKey) -> _Tcp | _Udp | None:
        protocol, port = key
        try:
            return _Tcp(port, self) if protocol == "tcp" else _Udp(port, self)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                why = "is taken on this node by another process"
            else:
                why = f"cannot be opened on this node: {error.strerror}"
            self._taken[key] = f"port {port}/{protocol} {why}"
            return None


def _reserve_tcp(port: int) -> socket.socket:
    """A bound TCP socket that refuses connections and that nobody can bind beside.

    Addresses are reused only to get past connections in TIME_WAIT: the option is off again while the socket
    does not listen, and having listened once makes the kernel hold the port exclusively.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        _reuse(sock, True)
        sock.bind(("0.0.0.0", port))
        sock.listen(1)
        _stop_listening(sock)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _reuse(sock: socket.socket, on: bool) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(on))


def _stop_listening(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    _reuse(sock, False)
