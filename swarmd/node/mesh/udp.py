"""Passes UDP datagrams on: one connected socket per client, forgotten after a time without traffic.

When there are as many clients as may be, the one that has been silent longest goes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import cast

from swarmd.node.mesh.core.choice import Peer
from swarmd.node.network.port import Backend

IDLE_SECONDS = 60.0
_MOST_CLIENTS = 4096
_MOST_WAITING = 16


class _Answers(asyncio.DatagramProtocol):
    """The socket towards a backend: sends what it hears back to the one client it belongs to."""

    def __init__(self, flow: Flow, client: Peer) -> None:
        self._flow = flow
        self._client = client

    def datagram_received(self, data: bytes, addr: Peer) -> None:
        self._flow.answer(data, self._client)

    def error_received(self, exc: Exception) -> None:
        self._flow.failed = True


class Flow:
    """One client's datagrams to one backend."""

    def __init__(self, port: UdpPort, backend: Backend, now: float) -> None:
        self._port = port
        self.backend = backend
        self.used = now
        self.failed = False
        self._waiting: list[bytes] = []
        self._transport: asyncio.DatagramTransport | None = None
        self._closed = False

    async def open(self, client: Peer) -> None:
        """Connect, then send what arrived meanwhile."""
        loop = asyncio.get_running_loop()
        remote = (self.backend.address, self.backend.port)
        try:
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Answers(self, client), remote_addr=remote
            )
        except OSError:
            self.failed = True
            return
        if self._closed:
            transport.close()
            return
        self._transport = transport
        for data in self._waiting:
            transport.sendto(data)
        self._waiting.clear()

    def send(self, data: bytes, now: float) -> None:
        self.used = now
        if self._transport:
            self._transport.sendto(data)
        elif len(self._waiting) < _MOST_WAITING:
            self._waiting.append(data)

    def answer(self, data: bytes, client: Peer) -> None:
        self.used = self._port.now()
        self._port.reply(data, client)

    def close(self) -> None:
        self._closed = True
        if self._transport:
            self._transport.close()


class UdpPort(asyncio.DatagramProtocol):
    """A published UDP port.  A client keeps its backend while that is one of the ``backends``."""

    def __init__(
        self,
        choose: Callable[[Peer], tuple[Backend, ...]],
        start: Callable[[Flow, Peer], None],
        now: Callable[[], float],
    ) -> None:
        self._choose = choose
        self._start = start
        self.now = now
        self._flows: OrderedDict[Peer, Flow] = OrderedDict()
        """In the order of their last use."""
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Peer) -> None:
        flow = self._flows.get(addr)
        if flow is not None and flow.failed:
            self._forget(addr)
            flow = None
        if flow is None:
            flow = self._open(addr)
        if flow is not None:
            self._flows.move_to_end(addr)
            flow.send(data, self.now())

    def reply(self, data: bytes, client: Peer) -> None:
        if client in self._flows:
            self._flows.move_to_end(client)
        if self._transport and not self._transport.is_closing():
            self._transport.sendto(data, client)

    @property
    def flows(self) -> int:
        """How many clients have a backend now."""
        return len(self._flows)

    def keep_only(self, backends: tuple[Backend, ...]) -> None:
        """End the flows to anybody else: their clients get another backend with the next datagram."""
        for client in [c for c, flow in self._flows.items() if flow.backend not in backends]:
            self._forget(client)

    def expire(self) -> None:
        """Forget clients that were silent for a minute."""
        limit = self.now() - IDLE_SECONDS
        while self._flows and next(iter(self._flows.values())).used < limit:
            self._forget(next(iter(self._flows)))

    def close(self) -> None:
        self.keep_only(())
        if self._transport:
            self._transport.close()

    def _open(self, client: Peer) -> Flow | None:
        backends = self._choose(client)
        if not backends:
            return None
        if len(self._flows) >= _MOST_CLIENTS:
            self._forget(next(iter(self._flows)))
        flow = self._flows[client] = Flow(self, backends[0], self.now())
        self._start(flow, client)
        return flow

    def _forget(self, client: Peer) -> None:
        self._flows.pop(client).close()
