"""The streams of a carrier: TLS 1.3 between nodes that show certificates of their swarm, frames inside.

One stream for each pair of nodes; the node with the lower number opens it, and opens another one every hour
and when a certificate is new, so that no key lives long.  Frames go into the newest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery
from swarmd.model.errors import Invalid
from swarmd.node.network.core.addresses import packed
from swarmd.node.network.core.carrying import (
    CarrierPeer,
    Orders,
    Records,
    calls,
    is_between,
    is_from,
    record,
)
from swarmd.rpc.peer import identity_of

REKEY_SECONDS = 3600.0
_OLD_LIVES_SECONDS = 5.0
_SETTLED_SECONDS = 2.0
HANDSHAKE_SECONDS = 5.0
_MOST_WAITING = 4 << 20
"""Bytes that may wait for a peer; what comes after is lost, as on a full line."""


class Stream(asyncio.Protocol):
    """One TLS connection.  ``expected``: the number of the node that was called; None: it called us."""

    def __init__(self, streams: Streams, expected: int | None = None) -> None:
        self._streams = streams
        self._expected = expected
        self._records = Records()
        self.number = 0
        self.transport: asyncio.Transport | None = None
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = made = cast("asyncio.Transport", transport)
        number = self._streams.admit(made.get_extra_info("peercert"))
        if number is None or self._expected not in (None, number):
            made.abort()
            return
        self.number = number
        self._streams.joined(self)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._records.feed(data)
        except Invalid:
            self.close()
            return
        for frame in frames:
            self._streams.deliver(frame, self.number)

    def connection_lost(self, exc: Exception | None) -> None:
        self._streams.left(self)
        if not self.ended.done():
            self.ended.set_result(None)

    def send(self, frames: list[bytes]) -> None:
        if self.transport is not None and self.transport.get_write_buffer_size() < _MOST_WAITING:
            self.transport.write(b"".join(map(record, frames)))

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Streams:
    """All streams of one node.  ``descriptor``: of the device; ``contexts``: (server, client) of now."""

    def __init__(
        self,
        descriptor: int,
        clock: Clock,
        nursery: Nursery,
        contexts: Callable[[], tuple[ssl.SSLContext, ssl.SSLContext]],
        changed: Callable[[], None],
        fraction: Callable[[], float],
    ) -> None:
        self._descriptor = descriptor
        self._clock = clock
        self._nursery = nursery
        self._contexts = contexts
        self._changed = changed
        self._fraction = fraction
        self._orders: Orders | None = None
        self._numbers: dict[str, int] = {}
        self._sources: dict[int, frozenset[bytes]] = {}
        self._open: dict[int, list[Stream]] = {}
        self._calling: dict[int, asyncio.Task[object]] = {}

    def order(self, orders: Orders) -> None:
        """Talk to exactly these peers, as this node."""
        before, self._orders = self._orders, orders
        self._numbers = {peer.node_id: peer.number for peer in orders.peers}
        self._sources = {number: frozenset(map(packed, many)) for number, many in orders.sources.items()}
        moved = set(before.peers) - set(orders.peers) if before else set()
        for peer in moved:
            self._forget(peer.number)
        renewed = before is not None and before.papers != orders.papers
        for peer in orders.peers:
            if renewed and (task := self._calling.pop(peer.number, None)):
                task.cancel()
            if calls(orders.number, peer.number) and peer.number not in self._calling:
                self._calling[peer.number] = self._nursery.start("secure stream", self._keep(peer))

    def addresses(self) -> Collection[str]:
        """Of the nodes that may call this one."""
        orders = self._orders
        peers = orders.peers if orders else ()
        return {peer.address for peer in peers if orders and calls(peer.number, orders.number)}

    def names(self) -> tuple[str, ...]:
        """Ids of the nodes there is a stream with."""
        return tuple(sorted(name for name, number in self._numbers.items() if self._open.get(number)))

    def send(self, number: int, frames: list[bytes]) -> None:
        """Frames for a node; lost when there is no stream to it."""
        streams = self._open.get(number)
        if streams:
            streams[-1].send(frames)

    def deliver(self, frame: bytes, sender: int) -> None:
        """Give a frame to the kernel if the sender may send it and it is for this node.

        A node that somebody has taken over must not speak as the containers of another.
        """
        known = self._sources.get(sender, frozenset())
        if self._orders and is_between(frame, sender, self._orders.number) and is_from(frame, known):
            with contextlib.suppress(OSError):  # the device is full, or the frame is nonsense: it is lost
                os.write(self._descriptor, frame)

    def admit(self, certificate: Mapping[str, Any] | None) -> int | None:
        """The number of the peer whose verified certificate this is; None for anybody else."""
        name = identity_of(certificate)
        if self._orders is None or name is None or name.cluster_id != self._orders.papers.cluster_id:
            return None
        return self._numbers.get(name.node_id)

    def joined(self, stream: Stream) -> None:
        streams = self._open.setdefault(stream.number, [])
        for old in streams:
            asyncio.get_running_loop().call_later(_OLD_LIVES_SECONDS, old.close)
        streams.append(stream)
        self._changed()

    def left(self, stream: Stream) -> None:
        streams = self._open.get(stream.number, [])
        if stream in streams:
            streams.remove(stream)
            self._changed()

    def _forget(self, number: int) -> None:
        if task := self._calling.pop(number, None):
            task.cancel()
        for stream in list(self._open.get(number, [])):
            stream.close()

    async def _keep(self, peer: CarrierPeer) -> None:
        """Have a stream to the peer, for ever, a fresh one every hour."""
        wait = 0.1
        while True:
            stream, began = await self._call(peer), self._clock.monotonic()
            if stream is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REKEY_SECONDS):
                        await asyncio.shield(stream.ended)
                if self._clock.monotonic() - began > _SETTLED_SECONDS:
                    wait = 0.1
                    continue
            # With TLS 1.3 a caller learns only after its handshake that it was refused.
            await self._clock.sleep(wait * (0.5 + self._fraction()))
            wait = min(wait * 2, 5.0)

    async def _call(self, peer: CarrierPeer) -> Stream | None:
        orders = self._orders
        assert orders is not None
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            tune(sock)
            sock.bind((orders.address, 0))
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await loop.sock_connect(sock, (peer.address, orders.port))
                _, made = await loop.create_connection(
                    lambda: Stream(self, peer.number),
                    sock=sock,
                    ssl=self._contexts()[1],
                    server_hostname=peer.node_id,
                )
        except (OSError, TimeoutError):
            sock.close()
            return None
        return made if made.number else None


def tune(sock: socket.socket) -> None:
    """Small frames at once; a peer that vanished is noticed within seconds."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000)
