"""Where one container asks for names: its UDP socket and its TCP connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from swarmd.node.dns.core import answer, wire
from swarmd.node.dns.core.answer import View
from swarmd.node.dns.core.budget import OUTSIDE, Budget
from swarmd.node.dns.core.wire import Query
from swarmd.node.dns.sockets import Sockets
from swarmd.node.dns.stream import Stream

Send = Callable[[bytes], None]
Outside = Callable[[Query, Send, bool], None]
"""(question, where the answer goes, whether by UDP): somebody outside is asked."""

_AT_ONCE = 32  # then others get their turn
_MOST_CONNECTIONS = 32
_QUESTION_BYTES = 1500


class Door:
    """``view`` is replaced when the container's surroundings change.

    A container that has spent its budget waits: its datagrams in the kernel, which drops what it cannot keep.
    """

    def __init__(self, sockets: Sockets, view: View, outside: Outside, turn: int) -> None:
        self.sockets = sockets
        self.view = view
        self._outside = outside
        self._turn = turn | 1
        self._loop = asyncio.get_running_loop()
        self._budget = Budget()
        self._paused: asyncio.TimerHandle | None = None
        self._streams: set[Stream] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begin to answer."""
        self._server = await self._loop.create_server(self._connect, sock=self.sockets.tcp)
        self._loop.add_reader(self.sockets.udp.fileno(), self._read)

    async def close(self) -> None:
        """End all connections and give the sockets back."""
        if self._paused:
            self._paused.cancel()
        if self.sockets.udp.fileno() >= 0:
            self._loop.remove_reader(self.sockets.udp.fileno())
        if self._server:
            self._server.close()
        for stream in tuple(self._streams):
            stream.close()
        self.sockets.close()

    def _read(self) -> None:
        now = self._loop.time()
        receive = self.sockets.udp.recvfrom
        for _ in range(min(_AT_ONCE, self._budget.left(now))):
            try:
                data, client = receive(_QUESTION_BYTES)
            except OSError:  # nothing there any more
                return
            self._budget.spend()
            self._answer_datagram(data, client)
        if not self._budget.left(now):
            self._loop.remove_reader(self.sockets.udp.fileno())
            self._paused = self._loop.call_at(self._budget.ends, self._resume)

    def _resume(self) -> None:
        self._paused = None
        self._loop.add_reader(self.sockets.udp.fileno(), self._read)

    def _answer_datagram(self, data: bytes, client: tuple[str, int]) -> None:
        query = wire.parse(data)
        if query is None:
            return
        message = answer.decide(query, self.view, self._next_turn(), by_udp=True)
        if message is None:
            self._budget.spend(OUTSIDE)
            self._outside(query, lambda late: self._send(late, client), True)
        else:
            self._send(message, client)

    def _send(self, message: bytes, client: tuple[str, int]) -> None:
        try:
            self.sockets.udp.sendto(message, client)
        except OSError:  # closed meanwhile, or no room: who asked asks again
            return

    def _connect(self) -> asyncio.Protocol:
        if len(self._streams) >= _MOST_CONNECTIONS:
            return _Turned()
        stream = Stream(self._answer_message, self._streams.discard, self._budget)
        self._streams.add(stream)
        return stream

    def _answer_message(self, data: bytes, send: Send) -> None:
        query = wire.parse(data)
        message = b"" if query is None else answer.decide(query, self.view, self._next_turn(), by_udp=False)
        if message is None and query is not None:
            self._budget.spend(OUTSIDE)
            self._outside(query, send, False)
        else:
            send(message or b"")

    def _next_turn(self) -> int:
        """A cheap random number: who asks for A and AAAA in turns must not always get the same first."""
        self._turn = self._turn * 48271 % 0x7FFFFFFF
        return self._turn >> 8


class _Turned(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
