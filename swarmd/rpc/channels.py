"""Channels to the node port of other nodes: mutual TLS, one per peer, made anew when certificates change."""

from __future__ import annotations

from collections.abc import Callable

import grpc

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
)


def host_port(address: str, port: int = NODE_PORT) -> str:
    """``ip:port``, with brackets around an IPv6 address."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Channels:
    """Open channels by (address, name the peer's certificate must carry)."""

    def __init__(self, credentials: Callable[[], grpc.ChannelCredentials]) -> None:
        self._credentials = credentials
        self._open: dict[tuple[str, str], grpc.aio.Channel] = {}

    def to(self, address: str, name: str) -> grpc.aio.Channel:
        """A channel to the node at IP ``address`` whose certificate names ``name`` (a node id or a role)."""
        key = (address, name)
        if key not in self._open:
            options = (*OPTIONS, ("grpc.ssl_target_name_override", name))
            self._open[key] = grpc.aio.secure_channel(
                host_port(address), self._credentials(), options=options
            )
        return self._open[key]

    async def close(self) -> None:
        """Close all; the next :meth:`to` uses the credentials of then."""
        channels, self._open = list(self._open.values()), {}
        for channel in channels:
            await channel.close(None)
