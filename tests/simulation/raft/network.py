"""A network in memory: each way is a connection that keeps order, may stall, break, and come again.

Each direction has its own connection, made by the sender, as real managers have it.  What a connection still
carries when it breaks is lost, or arrives late, after what the next one brings.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from random import Random

from swarmd.model.errors import Unavailable
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.transport import Receiver
from tests.simulation.raft.loop import Process, SimLoop

Note = Callable[..., None]
Spoke = Callable[[str, pb.PeerFrame], None]
_SILENCE = 3.0


class Lane:
    """One connection from ``source``."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.up = False
        self.last = 0.0
        self.stalled: list[bytes] = []


class SimNetwork:
    """Every way between machines, and what is wrong with each."""

    def __init__(self, loop: SimLoop, seed: str, note: Note, spoke: Spoke) -> None:
        self.loop = loop
        self.note = note
        self.spoke = spoke
        self.delay = 0.0005
        self.spike = 0.0
        self.late = 0.3
        self.rng = Random(f"{seed}/network")
        self.cuts: set[tuple[str, str]] = set()
        self.ends: dict[str, SimTransport] = {}
        self._seed = seed
        self._rngs: dict[tuple[str, str], Random] = {}

    def rng_of(self, source: str, target: str) -> Random:
        """Each way has its own chance, so that the order in which ways are used does not matter."""
        return self._rngs.setdefault((source, target), Random(f"{self._seed}/{source}>{target}"))

    def flight(self, rng: Random) -> float:
        spike = self.spike * rng.random() if self.spike and rng.random() < 0.1 else 0.0
        return rng.expovariate(1 / self.delay) + spike + 1e-5

    def cut(self, some: Iterable[str], others: Iterable[str], *, both_ways: bool = True) -> None:
        pairs = [(a, b) for a in some for b in others if a != b]
        for a, b in pairs:
            self._cut(a, b)
            if both_ways:
                self._cut(b, a)

    def _cut(self, a: str, b: str) -> None:
        if (a, b) in self.cuts:
            return
        self.cuts.add((a, b))
        end = self.ends.get(a)
        if end is not None:
            # The way back counts too: without its acknowledgements the sender gives up in the end.
            end.process.later(self.rng.uniform(0.2, _SILENCE), end.give_up, b)

    def heal(self) -> None:
        self.cuts.clear()
        for end in list(self.ends.values()):
            end.flush()

    def open(self, a: str, b: str) -> bool:
        return (a, b) not in self.cuts

    def break_lanes(self, chance: float) -> None:
        """Connections end, as when something between the machines restarts."""
        for name in sorted(self.ends):
            end = self.ends[name]
            for peer in sorted(end.lanes):
                if self.rng.random() < chance:
                    end.process.later(0.0, end.drop, peer)

    def gone(self, name: str, *, power: bool) -> None:
        """The process of ``name`` ended: the others notice at once, or by silence."""
        self.ends.pop(name, None)
        for other in sorted(self.ends):
            wait = self.rng.uniform(0.3, _SILENCE) if power else self.rng.uniform(0.001, 0.05)
            end = self.ends[other]
            end.process.later(wait, end.peer_gone, name)


class SimTransport:
    """One process's end; a :class:`~swarmd.store.raft.transport.Transport`."""

    def __init__(self, network: SimNetwork, process: Process, address: str) -> None:
        self.network = network
        self.process = process
        self.name = process.name
        self.address = address
        self.receiver: Receiver | None = None
        self.lanes: dict[str, Lane] = {}
        self._addresses: dict[str, str] = {}
        self._fetches: dict[str, list[asyncio.Queue[object]]] = {}

    async def start(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.network.ends[self.name] = self

    async def stop(self) -> None:
        self.receiver = None
        self.network.gone(self.name, power=False)

    # -- ways --------------------------------------------------------------------------------------

    def set_peers(self, peers: Mapping[str, str]) -> None:
        for peer in [p for p in self.lanes if peers.get(p) != self._addresses.get(p)]:
            lane = self.lanes.pop(peer)
            if lane.up:
                lane.up = False
                self._tell(peer, False)
        self._addresses = dict(peers)
        for peer in peers:
            if peer not in self.lanes:
                self.lanes[peer] = Lane(self.network.rng_of(self.name, peer))
                self._connect_later(peer)

    def _tell(self, peer: str, up: bool) -> None:
        if self.receiver is not None:
            self.network.note("link", self.name, peer, up)
            self.receiver.on_link(peer, up)

    def _connect_later(self, peer: str) -> None:
        lane = self.lanes[peer]
        self.process.later(lane.rng.uniform(0.005, 0.6), self._connect, peer, lane)

    def _connect(self, peer: str, lane: Lane) -> None:
        if self.lanes.get(peer) is not lane or self.receiver is None:
            return
        other = self.network.ends.get(peer)
        reached = (
            other is not None
            and not other.process.frozen
            and other.address == self._addresses[peer]
            and self.network.open(self.name, peer)
            and self.network.open(peer, self.name)
        )
        if not reached:
            self._connect_later(peer)
            return
        lane.up = True
        self._tell(peer, True)

    def give_up(self, peer: str) -> None:
        """Nothing got through for long."""
        if not (self.network.open(self.name, peer) and self.network.open(peer, self.name)):
            self.drop(peer)

    def peer_gone(self, peer: str) -> None:
        for queue in self._fetches.pop(peer, []):
            queue.put_nowait(ConnectionResetError(f"{peer} is gone"))
        self.drop(peer)

    def drop(self, peer: str) -> None:
        """The connection breaks; what it carries is lost, or comes late."""
        old = self.lanes.get(peer)
        if old is None or not old.up:
            return
        old.up = False
        old.stalled.clear()
        if self.network.late < old.rng.random():
            old.last = -1.0
        self.lanes[peer] = Lane(old.rng)
        self._tell(peer, False)
        self._connect_later(peer)

    # -- frames ------------------------------------------------------------------------------------

    def send(self, peer: str, frame: pb.PeerFrame) -> None:
        self.network.spoke(self.name, frame)
        lane = self.lanes.get(peer)
        if lane is None or not lane.up:
            return
        data = frame.SerializeToString()
        if self.network.open(self.name, peer):
            self._fly(peer, lane, data)
        else:
            lane.stalled.append(data)

    def flush(self) -> None:
        """What was stalled by a cut that healed is sent again by the connection itself."""
        for peer, lane in self.lanes.items():
            stalled, lane.stalled = lane.stalled, []
            for data in stalled:
                self._fly(peer, lane, data)

    def _fly(self, peer: str, lane: Lane, data: bytes) -> None:
        other = self.network.ends.get(peer)
        if other is None:
            return
        lane.last = max(lane.last, self.network.loop.now + self.network.flight(lane.rng)) + 1e-7
        wait = lane.last - self.network.loop.now
        other.process.later(wait, other.arrive, self.name, lane, data)

    def arrive(self, source: str, lane: Lane, data: bytes) -> None:
        if self.receiver is None or lane.last < 0:
            return
        self.network.note("frame", source, self.name, data)
        self.receiver.on_frame(source, pb.PeerFrame.FromString(data))

    # -- bases -------------------------------------------------------------------------------------

    async def fetch_base(self, peer: str, request: pb.SnapshotRequest) -> AsyncIterator[pb.SnapshotChunk]:
        other = self.network.ends.get(peer)
        if peer not in self.lanes or other is None or not self.network.open(self.name, peer):
            raise Unavailable(f"There is no way to manager {peer} now.")
        queue: asyncio.Queue[object] = asyncio.Queue()
        self._fetches.setdefault(peer, []).append(queue)
        wait = self.network.flight(self.network.rng_of(self.name, peer))
        other.process.later(wait, other._serve, self, queue, request.SerializeToString())
        received, total = 0, 0
        while True:
            piece = await self._next_piece(peer, other, queue)
            if piece is None:
                break
            if isinstance(piece, Exception):
                raise piece
            assert isinstance(piece, bytes)
            chunk = pb.SnapshotChunk.FromString(piece)
            received, total = chunk.offset + len(chunk.data), chunk.total_size
            yield chunk
        if received != total:
            raise ConnectionResetError(f"{peer} ended after {received} of {total} bytes")

    async def _next_piece(self, peer: str, other: SimTransport, queue: asyncio.Queue[object]) -> object:
        """As the kernel has it: a way that is cut is noticed after 2 s, a silent process after 12 s."""
        async with asyncio.timeout(12.0):
            while True:
                try:
                    async with asyncio.timeout(2.0):
                        return await queue.get()
                except TimeoutError:
                    is_open = self.network.open(peer, self.name) and self.network.open(self.name, peer)
                    if not is_open or self.network.ends.get(peer) is not other:
                        raise ConnectionResetError(f"the way to {peer} is cut") from None

    def _serve(self, to: SimTransport, queue: asyncio.Queue[object], request: bytes) -> None:
        self.process.run(self._serving(to, queue, pb.SnapshotRequest.FromString(request)), "serve base")

    async def _serving(self, to: SimTransport, queue: asyncio.Queue[object], ask: pb.SnapshotRequest) -> None:
        if self.receiver is None:
            return
        rng = self.network.rng_of(self.name, to.name)
        at = 0.0
        async for chunk in self.receiver.serve_base(to.name, ask):
            if not self.network.open(self.name, to.name):
                return
            at = max(at, self.network.loop.now + self.network.flight(rng)) + 1e-7
            to.process.later(at - self.network.loop.now, queue.put_nowait, chunk.SerializeToString())
        to.process.later(max(at - self.network.loop.now, 0.0) + 1e-6, queue.put_nowait, None)
