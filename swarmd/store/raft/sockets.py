"""The transport of real managers: one outgoing raft lane to each peer, incoming ones from the peer server.

Each direction has its own connection, made by the sender, so two managers never race for one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping

from swarmd.kit.clock import Clock
from swarmd.kit.ids import random_fraction
from swarmd.kit.supervise import Nursery
from swarmd.model.errors import Unavailable
from swarmd.rpc.peer import Check, ContextSource, PeerServer
from swarmd.rpc.peer_client import PeerClient, fetch_base
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.transport import Receiver

_log = logging.getLogger(__name__)


class PeerTransport:
    """A :class:`~swarmd.store.raft.transport.Transport` over TLS 1.3.

    ``server`` listens already, or will; it is its owner's to start and close.  ``context`` gives the client
    context of the moment, with this node's certificate and the swarm's root; ``check`` is asked about the
    other end's.
    """

    def __init__(
        self,
        *,
        node_id: str,
        cluster_id: Callable[[], str],
        server: PeerServer,
        context: ContextSource,
        clock: Clock,
        fraction: Callable[[], float] = random_fraction,
        check: Check = lambda node_id, certificate: None,
    ) -> None:
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._server = server
        self._context = context
        self._clock = clock
        self._fraction = fraction
        self._check = check
        self._nursery = Nursery(lambda name, error: _log.error("%s failed", name, exc_info=error))
        self._receiver: Receiver | None = None
        self._clients: dict[str, tuple[PeerClient, asyncio.Task[None]]] = {}

    async def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._server.attach(receiver)

    async def stop(self) -> None:
        self._server.attach(None)
        self._receiver = None
        await self._nursery.close()
        self._clients.clear()

    def set_peers(self, peers: Mapping[str, str]) -> None:
        for peer in list(self._clients):
            client, task = self._clients[peer]
            if peers.get(peer) != client.address:
                task.cancel()
                del self._clients[peer]
                if self._receiver is not None:
                    self._receiver.on_link(peer, False)
        for peer, address in peers.items():
            if peer not in self._clients:
                self._open(peer, address)

    def refresh(self) -> None:
        """This node has another certificate: show it to everybody."""
        for client, _ in self._clients.values():
            client.refresh()

    def _open(self, peer: str, address: str) -> None:
        def on_link(up: bool) -> None:
            # One that was replaced has been reported down already.
            current = self._clients.get(peer)
            if self._receiver is not None and current is not None and current[0] is client:
                self._receiver.on_link(peer, up)

        client = PeerClient(
            peer=peer,
            address=address,
            own_id=self._node_id,
            cluster_id=self._cluster_id,
            context=self._context,
            on_link=on_link,
            clock=self._clock,
            fraction=self._fraction,
            check=self._check,
        )
        self._clients[peer] = (client, self._nursery.start(f"way to {peer}", client.run()))

    def send(self, peer: str, frame: pb.PeerFrame) -> None:
        entry = self._clients.get(peer)
        if entry is not None:
            entry[0].send(frame)

    def fetch_base(self, peer: str, request: pb.SnapshotRequest) -> AsyncIterator[pb.SnapshotChunk]:
        entry = self._clients.get(peer)
        if entry is None:
            raise Unavailable(f"There is no way to manager {peer} now.")
        hello = pb.PeerHello(cluster_id=self._cluster_id(), node_id=self._node_id, lane=pb.PEER_LANE_SNAPSHOT)
        return fetch_base(peer, entry[0].address, hello, request, self._context(), self._check)
