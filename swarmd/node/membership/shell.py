"""The gossip of one node: a datagram socket and a ticker around the pure :class:`Swim`.

It decides nothing.  Events are handed to ``on_event`` from the event loop, in order, each in its own turn:
a callback that fails is reported by the loop and does not stop the gossip.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import msgspec

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery, Report
from swarmd.model.errors import Unavailable
from swarmd.node.membership.codec import Codec
from swarmd.node.membership.core.config import SwimConfig, lan
from swarmd.node.membership.core.messages import Address, Effects, MemberEvent, State
from swarmd.node.membership.core.prng import Prng
from swarmd.node.membership.core.swim import Swim

StateName: TypeAlias = Literal["alive", "suspect", "dead", "left"]

_NAMES: dict[State, StateName] = {
    State.ALIVE: "alive",
    State.SUSPECT: "suspect",
    State.DEAD: "dead",
    State.LEFT: "left",
}
_RECEIVE_BUFFER = 1 << 20
_GOODBYE_SECONDS = 2.0
_LONGEST_SLEEP = 60.0


class MemberView(msgspec.Struct, frozen=True):
    """How this node sees a member.  ``since``: wall clock seconds of the last change of ``state``."""

    state: StateName
    address: Address
    since: float
    epoch: int
    incarnation: int
    meta: bytes


class GossipStats(msgspec.Struct, frozen=True):
    """Datagrams sent and accepted, those dropped by reason, failed sends, and local health (0 is well)."""

    sent: int
    received: int
    garbage: int
    unsealed: int
    replayed: int
    failed: int
    health: int


class Gossip:
    """This node's part in the swarm's gossip.

    ``bind`` is where to listen, ``advertise`` what the others are told; port 0 in either takes the port
    that was bound.  ``keys`` are 32 bytes each; the first seals, all open.  ``seed_random`` must differ
    from run to run and node to node.  Raises Invalid for wrong keys, ids or meta.  Once stopped it stays so.
    """

    def __init__(
        self,
        node_id: str,
        bind: Address,
        advertise: Address,
        keys: list[bytes],
        clock: Clock,
        seed_random: int,
        on_event: Callable[[MemberEvent], None],
        *,
        config: SwimConfig | None = None,
        meta: bytes = b"",
        report: Report | None = None,
    ) -> None:
        self._id = node_id
        self._bind = bind
        self._advertise = advertise
        self._codec = Codec(node_id, keys)
        self._clock = clock
        self._prng = Prng(seed_random)
        self._on_event = on_event
        self._config = config or lan()
        self._meta = meta
        self._nursery = Nursery(report or _report)
        self._poked = asyncio.Event()
        self._transport: asyncio.DatagramTransport | None = None
        self._closed = asyncio.Event()
        self._swim: Swim | None = None
        self._started = 0.0
        self._sent = self._received = self._failed = 0

    async def start(self) -> None:
        """Listen.  Raises Unavailable when the address cannot be bound."""
        loop = asyncio.get_running_loop()
        host, port = self._bind
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: _Protocol(self), local_addr=self._bind)
        except OSError as error:
            raise Unavailable(
                f"gossip cannot listen on {host} port {port}/udp: {error.strerror or error}; "
                "free the port or choose another address"
            ) from error
        self._transport = transport
        self._widen(transport)
        bound: int = transport.get_extra_info("sockname")[1]
        self._bind = (host, bound)
        self._advertise = (self._advertise[0], self._advertise[1] or bound)
        # Milliseconds of the wall clock order the runs; random bits below keep two runs apart for certain.
        epoch = int(self._clock.now() * 1000) << 16 | self._prng.below(1 << 16)
        self._started = self._clock.now()
        self._swim = Swim(
            self._id,
            self._advertise,
            epoch=epoch,
            seed=self._prng.bits(),
            now=self._clock.monotonic(),
            config=self._config,
            meta=self._meta,
        )
        self._nursery.start("gossip", self._tick())

    @property
    def address(self) -> Address:
        """What the others are told, with the real port once started."""
        return self._advertise

    def join(self, seeds: list[Address]) -> None:
        """Get to know the swarm through any of these; goes on trying until one answers."""
        swim = self._running()
        self._do(swim.join(self._clock.monotonic(), seeds))

    def set_meta(self, meta: bytes) -> None:
        """Tell all members something about this node, at most 256 bytes (raises Invalid)."""
        self._meta = meta
        swim = self._running()
        self._do(swim.set_meta(self._clock.monotonic(), meta))

    def set_keys(self, keys: list[bytes]) -> None:
        """Replace the key ring; the first seals, all open.  Raises Invalid."""
        self._codec.set_keys(keys)

    def members(self) -> dict[str, MemberView]:
        """All known members by id, this node included; empty before :meth:`start`."""
        if self._swim is None:
            return {}
        offset = self._clock.now() - self._clock.monotonic()
        own = self._swim.own
        views = {
            own.id: MemberView(
                _NAMES[own.state], own.address, self._started, own.epoch, own.incarnation, own.meta
            )
        }
        for member in self._swim.members().values():
            record = member.record
            views[record.id] = MemberView(
                _NAMES[record.state],
                record.address,
                member.since + offset,
                record.epoch,
                record.incarnation,
                record.meta,
            )
        return views

    def stats(self) -> GossipStats:
        """Counters since the start."""
        dropped = self._codec.dropped
        health = 0 if self._swim is None else self._swim.health
        return GossipStats(
            self._sent,
            self._received,
            dropped.garbage,
            dropped.unsealed,
            dropped.replayed,
            self._failed,
            health,
        )

    async def stop(self, leave: bool = False) -> None:
        """Stop listening; with ``leave`` the others are told first that this node goes for good (≤ 2 s)."""
        swim, transport = self._swim, self._transport
        if swim is None or transport is None:
            return
        if leave:
            self._do(swim.leave(self._clock.monotonic()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GOODBYE_SECONDS):
                    while not swim.quiet:
                        await self._clock.sleep(self._config.gossip_interval / 4)
        await self._nursery.close()
        transport.close()
        await self._closed.wait()
        self._transport = None

    # What the socket and the ticker call.

    def datagram(self, data: bytes, address: Address) -> None:
        """A datagram came in."""
        envelope = self._codec.open(data)
        if envelope is None or self._swim is None:
            return
        self._received += 1
        now = self._clock.monotonic()
        self._do(self._swim.receive(now, address, envelope.sender, envelope.message))

    def send_failed(self) -> None:
        """The kernel refused a datagram, or told of one refused elsewhere."""
        self._failed += 1

    def closed(self) -> None:
        """The socket is gone."""
        self._closed.set()

    async def _tick(self) -> None:
        swim = self._running()
        while True:
            self._poked.clear()
            delay = min(_LONGEST_SLEEP, swim.wake - self._clock.monotonic())
            if delay > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._poked.wait()
            now = self._clock.monotonic()
            if swim.wake <= now:
                self._do(swim.tick(now))

    def _do(self, effects: Effects) -> None:
        loop = asyncio.get_running_loop()
        for event in effects.events:
            loop.call_soon(self._on_event, event)
        swim, transport = self._swim, self._transport
        if swim is None or transport is None or transport.is_closing():
            return
        epoch = swim.own.epoch
        six = ":" in self._bind[0]
        for address, message in effects.send:
            if (":" in address[0]) is not six:
                self._failed += 1
                continue
            transport.sendto(self._codec.seal(message, epoch), address)
            self._sent += 1
        self._poked.set()

    def _running(self) -> Swim:
        if self._swim is None:
            raise Unavailable("gossip is not running on this node; start it first")
        return self._swim

    @staticmethod
    def _widen(transport: asyncio.DatagramTransport) -> None:
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)


class _Protocol(asyncio.DatagramProtocol):
    def __init__(self, gossip: Gossip) -> None:
        self._gossip = gossip

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._gossip.datagram(data, (addr[0], addr[1]))

    def error_received(self, exc: Exception) -> None:
        self._gossip.send_failed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gossip.closed()


def _report(name: str, error: BaseException) -> None:
    context = {"message": f"{name} failed: {error}", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
