"""A network of members in one process, which can be cut and healed.  For tests and simulations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping

from swarmd.model.errors import Unavailable
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.transport import Receiver


class MemoryNetwork:
    """Frames are delivered in order, as bytes, in a later turn of the loop; across a cut they are lost."""

    def __init__(self) -> None:
        self._transports: dict[str, MemoryTransport] = {}
        self._cuts: set[tuple[str, str]] = set()

    def transport(self, node_id: str) -> MemoryTransport:
        """A transport for ``node_id``; the one made last receives."""
        return MemoryTransport(self, node_id)

    def cut(self, some: Iterable[str], others: Iterable[str], *, both_ways: bool = True) -> None:
        """Lose every frame from ``some`` to ``others``, and back unless told otherwise."""
        second = list(others)
        for a in some:
            for b in second:
                self._cuts |= {(a, b), (b, a)} if both_ways else {(a, b)}
        self.refresh()

    def heal(self) -> None:
        """No cuts any more."""
        self._cuts.clear()
        self.refresh()

    def refresh(self) -> None:
        """Tell everybody which ways are open now."""
        for transport in list(self._transports.values()):
            transport.refresh()

    def attach(self, transport: MemoryTransport) -> None:
        self._transports[transport.node_id] = transport
        self.refresh()

    def detach(self, transport: MemoryTransport) -> None:
        if self._transports.get(transport.node_id) is transport:
            del self._transports[transport.node_id]
        self.refresh()

    def route(self, source: str, target: str) -> MemoryTransport | None:
        """The other end, when there is a way from ``source`` to it."""
        return None if (source, target) in self._cuts else self._transports.get(target)


class MemoryTransport:
    """One member's end of a :class:`MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, node_id: str) -> None:
        self.node_id = node_id
        self.receiver: Receiver | None = None
        self._network = network
        self._peers: dict[str, str] = {}
        self._up: set[str] = set()

    async def start(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self._network.attach(self)

    async def stop(self) -> None:
        self.receiver = None
        self._network.detach(self)

    def set_peers(self, peers: Mapping[str, str]) -> None:
        self._peers = dict(peers)
        self.refresh()

    def refresh(self) -> None:
        """Notice ways that opened or closed."""
        if self.receiver is None:
            return
        up = {peer for peer in self._peers if self._network.route(self.node_id, peer) is not None}
        for peer in sorted(up ^ self._up):
            self.receiver.on_link(peer, peer in up)
        self._up = up

    def send(self, peer: str, frame: pb.PeerFrame) -> None:
        if peer in self._up:
            asyncio.get_running_loop().call_soon(self._deliver, peer, frame.SerializeToString())

    def _deliver(self, peer: str, data: bytes) -> None:
        target = self._network.route(self.node_id, peer)
        if target is not None and target.receiver is not None:
            target.receiver.on_frame(self.node_id, pb.PeerFrame.FromString(data))

    async def fetch_base(self, peer: str, request: pb.SnapshotRequest) -> AsyncIterator[pb.SnapshotChunk]:
        target = self._network.route(self.node_id, peer)
        if target is None or target.receiver is None:
            raise Unavailable(f"Manager {peer} cannot be reached.")
        async for chunk in target.receiver.serve_base(self.node_id, request):
            if self._network.route(self.node_id, peer) is not target:
                raise Unavailable(f"The way to manager {peer} broke.")
            yield chunk
