"""The cluster port: the serving end that knows managers by their certificates and lets strangers join.

Every connection is TLS 1.3 and begins with a hello that names its lane.  The raft and snapshot lanes are for
client certificates of managers of this swarm; who the peer is comes from the certificate, and the hello must
say the same.  Without a certificate only the join lane is open.  ``peer_client`` is the other end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from swarmd.kit.supervise import Nursery
from swarmd.model.errors import Denied, Invalid, SwarmError
from swarmd.rpc.accepting import handshake_failure, notice_silence, open_server_side
from swarmd.rpc.admission import Admission
from swarmd.rpc.frames import read_frame, write_frame
from swarmd.rpc.v1 import peer_pb2 as pb

_log = logging.getLogger(__name__)

MANAGER_ROLE = "swarm-manager"
_GREETING_SECONDS = 5.0
_JOIN_SECONDS = 30.0
_ACCEPT_RETRY_SECONDS = 0.2
_STRANGER_BYTES = 64 << 10

ContextSource = Callable[[], ssl.SSLContext]
Check = Callable[[str, bytes], None]
"""(node id, certificate in DER) of a manager at the other end; raises Denied when that counts no more.

TLS has verified whose certificate it is; whether it counts *now*, also its dates, is asked here."""

OnJoin = Callable[[pb.JoinRequest, str], Awaitable[pb.JoinReply]]


class Identity(msgspec.Struct, frozen=True):
    """Who a certificate says the peer is."""

    node_id: str
    role: str
    cluster_id: str


OnRefused = Callable[[str, Identity | None, str], None]
"""(IP address, whom TLS verified, the reason) of a connection that is not let in."""


class PeerHandler(Protocol):
    """Takes what managers say on their lanes."""

    def on_frame(self, peer: str, frame: pb.PeerFrame) -> None: ...

    def serve_base(self, peer: str, request: pb.SnapshotRequest) -> AsyncIterator[pb.SnapshotChunk]: ...


def identity_of(certificate: Mapping[str, Any] | None) -> Identity | None:
    """The identity in what ``getpeercert`` gave for a verified certificate; None without one."""
    if not certificate:
        return None
    names = {key: value for rdn in certificate.get("subject", ()) for key, value in rdn}
    return Identity(
        node_id=names.get("commonName", ""),
        role=names.get("organizationalUnitName", ""),
        cluster_id=names.get("organizationName", ""),
    )


def check_manager(identity: Identity | None, hello: pb.PeerHello, cluster_id: str) -> str:
    """The node id of a manager of this swarm; raises Denied for anybody else."""
    if identity is None:
        raise Denied("This lane is for managers: the connection has no client certificate.")
    if identity.role != MANAGER_ROLE:
        raise Denied(
            f"This lane is for managers; node {identity.node_id} is a {identity.role or 'stranger'}."
        )
    if identity.cluster_id != cluster_id or hello.cluster_id != cluster_id:
        raise Denied(f"Node {identity.node_id} belongs to another swarm ({identity.cluster_id}).")
    if not identity.node_id or hello.node_id != identity.node_id:
        raise Denied(f"The peer calls itself {hello.node_id!r}, its certificate says {identity.node_id!r}.")
    return identity.node_id


def shown_certificate(writer: asyncio.StreamWriter) -> bytes:
    """The certificate of the other end of a TLS connection, DER; empty without one."""
    return writer.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""


class PeerServer:
    """Listens on the cluster port.

    ``context`` is asked for each connection, so that certificates can rotate: a server context for TLS 1.3
    with ``verify_mode=CERT_OPTIONAL`` and the swarm's root.  ``on_join(request, peer_address)`` answers
    those who want to join.  ``check`` is asked at each connection, and at :meth:`recheck` for open ones.
    ``on_refused`` hears of handshakes that fail and of certificates that are refused.
    """

    def __init__(
        self,
        *,
        node_id: str,
        cluster_id: Callable[[], str],
        context: ContextSource,
        on_join: OnJoin,
        check: Check = lambda node_id, certificate: None,
        admission: Admission | None = None,
        on_refused: OnRefused = lambda address, who, why: None,
    ) -> None:
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._context = context
        self._on_join = on_join
        self._check = check
        self._on_refused = on_refused
        self._nursery = Nursery(lambda name, error: _log.error("%s failed", name, exc_info=error))
        self._socket: socket.socket | None = None
        self._handler: PeerHandler | None = None
        self._raft_lanes: dict[str, asyncio.StreamWriter] = {}
        self._lanes: dict[asyncio.StreamWriter, str] = {}
        self._admission = admission or Admission()

    async def start(self, host: str, port: int) -> int:
        """Listen on ``host`` (an IP) and ``port`` (0: any free one); answer the port.  Raises OSError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind((host, port))
            listener.listen(128)
        except OSError:
            listener.close()
            raise
        self._socket = listener
        self._nursery.start("cluster port", self._accept(listener))
        return int(listener.getsockname()[1])

    def attach(self, handler: PeerHandler | None) -> None:
        """Managers' frames go to ``handler`` from now on; None refuses them."""
        self._handler = handler
        if handler is None:
            for writer in self._raft_lanes.values():
                writer.transport.abort()

    def recheck(self, check: Check | None = None) -> None:
        """Who may connect has changed: cut the connections of those who may not any more.

        ``check``: another one than that of new connections."""
        for writer, peer in self._lanes.items():
            try:
                (check or self._check)(peer, shown_certificate(writer))
            except Denied as error:
                _log.info("connection of %s cut: %s", peer, error)
                writer.transport.abort()

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        await self._nursery.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as error:
                _log.warning("the cluster port cannot take a connection: %s", error)
                await asyncio.sleep(_ACCEPT_RETRY_SECONDS)
                continue
            if not self._admission.enter(address[0]):
                _log.debug("a connection from %s is one too many of strangers", address[0])
                connection.close()
                continue
            self._nursery.start(f"peer {address[0]}", self._serve(connection, str(address[0])))

    async def _serve(self, connection: socket.socket, address: str) -> None:
        """One connection from handshake to end; whatever goes wrong ends only it."""
        writer: asyncio.StreamWriter | None = None
        try:
            with contextlib.ExitStack() as stranger:
                stranger.callback(self._admission.leave, address)
                notice_silence(connection)
                try:
                    reader, writer = await open_server_side(
                        connection, self._context(), limit=_GREETING_SECONDS
                    )
                    lane, peer = await self._greet(reader, writer)
                except (ssl.SSLError, Denied) as error:
                    self._tell_refused(address, writer, error)
                    raise
                if lane == pb.PEER_LANE_JOIN:
                    await self._join_lane(reader, writer, address)
                    return
            await self._manager_lane(lane, peer, reader, writer)
        except (OSError, SwarmError, TimeoutError) as error:
            _log.info("connection from %s ended: %s", address, error)
        finally:
            if writer is not None:
                writer.transport.abort()
            else:
                connection.close()

    def _tell_refused(self, address: str, writer: asyncio.StreamWriter | None, error: Exception) -> None:
        why = handshake_failure(error) if isinstance(error, ssl.SSLError) else str(error)
        if why:
            who = identity_of(writer.get_extra_info("peercert")) if writer is not None else None
            self._on_refused(address, who, why)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, str]:
        """The lane, and the manager at its other end ("" on the join lane).  Raises Denied, Invalid."""
        async with asyncio.timeout(_GREETING_SECONDS):
            first = await read_frame(reader, limit=_STRANGER_BYTES)
        if first is None or first.WhichOneof("body") != "hello":
            raise Invalid("The first frame is no hello.")
        hello = first.hello
        if hello.lane == pb.PEER_LANE_JOIN:
            return hello.lane, ""
        peer = check_manager(identity_of(writer.get_extra_info("peercert")), hello, self._cluster_id())
        self._check(peer, shown_certificate(writer))
        return hello.lane, peer

    async def _manager_lane(
        self, lane: int, peer: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._lanes[writer] = peer
        try:
            if lane == pb.PEER_LANE_RAFT:
                await self._raft_lane(peer, reader, writer)
            elif lane == pb.PEER_LANE_SNAPSHOT:
                await self._snapshot_lane(peer, reader, writer)
            else:
                raise Invalid(f"There is no lane {lane}.")
        finally:
            del self._lanes[writer]

    async def _join_lane(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str
    ) -> None:
        async with asyncio.timeout(_JOIN_SECONDS):
            frame = await read_frame(reader, limit=_STRANGER_BYTES)
            if frame is None or frame.WhichOneof("body") != "join_request":
                raise Invalid("The join lane takes one join request.")
            try:
                reply = await self._on_join(frame.join_request, address)
            except SwarmError as error:
                reply = pb.JoinReply(error_kind=error.kind, error=str(error))
            await write_frame(writer, pb.PeerFrame(join_reply=reply))
            writer.close()
            await writer.wait_closed()

    async def _raft_lane(self, peer: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._handler is None:
            raise Denied("This manager does not take part in the swarm's decisions now.")
        before = self._raft_lanes.get(peer)
        if before is not None:
            before.transport.abort()
        self._raft_lanes[peer] = writer
        try:
            answer = pb.PeerHello(
                cluster_id=self._cluster_id(), node_id=self._node_id, lane=pb.PEER_LANE_RAFT
            )
            await write_frame(writer, pb.PeerFrame(hello=answer))
            while (frame := await read_frame(reader)) is not None:
                # Frames that were buffered when a newer connection came must not overtake its own.
                if self._raft_lanes.get(peer) is not writer or self._handler is None:
                    return
                self._handler.on_frame(peer, frame)
        finally:
            if self._raft_lanes.get(peer) is writer:
                del self._raft_lanes[peer]

    async def _snapshot_lane(
        self, peer: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async with asyncio.timeout(_GREETING_SECONDS):
            frame = await read_frame(reader)
        if frame is None or frame.WhichOneof("body") != "snapshot_request" or self._handler is None:
            raise Invalid("The snapshot lane takes one request, of a manager that takes part.")
        async for chunk in self._handler.serve_base(peer, frame.snapshot_request):
            await write_frame(writer, pb.PeerFrame(snapshot_chunk=chunk))
        writer.close()
        await writer.wait_closed()
