"""Channels to the node port of other nodes: mutual TLS, one per peer, made anew when certificates change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import grpc

from swarmd.kit.groups import TaskGroup

NODE_PORT = 7946
MAX_MESSAGE = 16 << 20

OPTIONS: tuple[tuple[str, object], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    # A peer whose machine vanished sends no FIN: ask it every few seconds while calls are open.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

SERVER_OPTIONS: tuple[tuple[str, object], ...] = (
    *OPTIONS[:5],
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
    # Strangers who connect and say nothing, and one member with a call too many.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_concurrent_streams", 1_000),
)

GRACE = 60.0
"""Seconds that short calls get to end on a channel of an old certificate."""

LONGEST = 3600.0
"""Seconds after which a stream on such a channel is cut all the same."""


def host_port(address: str, port: int = NODE_PORT) -> str:
    """``ip:port``, with brackets around an IPv6 address."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class _Held:
    """A channel and how many long streams run on it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self._users = 0
        self.unused = asyncio.Event()
        self.unused.set()

    @contextlib.contextmanager
    def used(self) -> Iterator[grpc.aio.Channel]:
        self._users += 1
        self.unused.clear()
        try:
            yield self.channel
        finally:
            self._users -= 1
            if not self._users:
                self.unused.set()


class Channels:
    """Open channels by (address, name the peer's certificate must carry)."""

    def __init__(self, credentials: Callable[[], grpc.ChannelCredentials]) -> None:
        self._credentials = credentials
        self._open: dict[tuple[str, str], _Held] = {}
        self._old: list[_Held] = []

    def to(self, address: str, name: str) -> grpc.aio.Channel:
        """A channel to the node at IP ``address`` whose certificate names ``name`` (a node id or a role).

        For one short call, or for calls that may be cut when this node's certificate changes.
        """
        return self._held(address, name).channel

    def using(self, address: str, name: str) -> contextlib.AbstractContextManager[grpc.aio.Channel]:
        """The same for a long stream: it goes on when the certificate changes meanwhile."""
        return self._held(address, name).used()

    def renew(self) -> None:
        """From now on :meth:`to` uses the present credentials; :meth:`retire` ends the old channels."""
        self._old.extend(self._open.values())
        self._open = {}

    async def retire(self, *, grace: float = GRACE, longest: float = LONGEST) -> None:
        """Close the old channels: after ``grace`` seconds, and the end of their streams or ``longest``."""
        old, self._old = self._old, []
        async with TaskGroup() as group:
            for held in old:
                group.create_task(_see_off(held, grace, longest))

    async def close(self) -> None:
        """Close all, and cut what runs on them."""
        self.renew()
        old, self._old = self._old, []
        for held in old:
            await held.channel.close(None)

    def _held(self, address: str, name: str) -> _Held:
        key = (address, name)
        if key not in self._open:
            options = (*OPTIONS, ("grpc.ssl_target_name_override", name))
            channel = grpc.aio.secure_channel(host_port(address), self._credentials(), options=options)
            self._open[key] = _Held(channel)
        return self._open[key]


async def _see_off(held: _Held, grace: float, longest: float) -> None:
    try:
        await asyncio.sleep(grace)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest):
                await held.unused.wait()
    finally:
        await held.channel.close(None)
