"""The calling end of the cluster port: a lasting way to one manager, and single requests."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable

from swarmd.kit.backoff import Backoff
from swarmd.kit.clock import Clock
from swarmd.kit.groups import TaskGroup
from swarmd.model.errors import KINDS, Invalid, SwarmError, Unavailable
from swarmd.rpc.frames import encode_frame, read_frame, write_frame
from swarmd.rpc.peer import Check, ContextSource, shown_certificate
from swarmd.rpc.v1 import peer_pb2 as pb

_log = logging.getLogger(__name__)

_CONNECT_SECONDS = 3.0
_SILENCE_MILLISECONDS = 3000
_CUT_MILLISECONDS = 2000
_MOST_BYTES = 32 << 20
_WRITE_BYTES = 1 << 20
_FIRST_RETRY = 0.05
_LAST_RETRY = 1.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(address: str, context: ssl.SSLContext, server_name: str) -> Streams:
    """A TLS connection to ``ip:port`` whose certificate must name ``server_name``, within 3 seconds.

    Raises OSError (ssl.SSLError is one), TimeoutError.  A peer that takes nothing for 3 seconds is lost.
    """
    host, _, port = address.rpartition(":")
    ip = ipaddress.ip_address(host.strip("[]"))
    sock = socket.socket(socket.AF_INET6 if ip.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MILLISECONDS)
        async with asyncio.timeout(_CONNECT_SECONDS):
            await asyncio.get_running_loop().sock_connect(sock, (str(ip), int(port)))
            return await asyncio.open_connection(sock=sock, ssl=context, server_hostname=server_name)
    except BaseException:
        sock.close()
        raise


class PeerClient:
    """The raft lane to manager ``peer`` at ``address``: reconnects for ever, keeps frames in order.

    Frames are lost while there is no connection and when more than 32 MiB wait.  ``on_link(up)`` tells when
    the other end has accepted, and when the connection is gone.  ``check`` is asked about the other end's
    certificate.  Run :meth:`run` in a task of its owner.
    """

    def __init__(
        self,
        *,
        peer: str,
        address: str,
        own_id: str,
        cluster_id: Callable[[], str],
        context: ContextSource,
        on_link: Callable[[bool], None],
        clock: Clock,
        fraction: Callable[[], float],
        check: Check,
    ) -> None:
        self.address = address
        self._peer = peer
        self._own_id = own_id
        self._cluster_id = cluster_id
        self._context = context
        self._on_link = on_link
        self._check = check
        self._clock = clock
        self._backoff = Backoff(first=_FIRST_RETRY, cap=_LAST_RETRY, fraction=fraction)
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._up = False
        self._gone = False
        self._stale = False
        self._writer: asyncio.StreamWriter | None = None

    def send(self, frame: pb.PeerFrame) -> bool:
        """Queue ``frame``; False when it is lost right away."""
        if not self._up or self._bytes > _MOST_BYTES:
            return False
        data = encode_frame(frame)
        if (
            self._writer is not None
            and not self._queue
            and not self._writer.transport.get_write_buffer_size()
        ):
            # Nothing waits: it need not wait for the loop either.
            self._writer.write(data)
            return True
        self._queue.append(data)
        self._bytes += len(data)
        self._wake.set()
        return True

    def refresh(self) -> None:
        """This end has another certificate: connect with it, and only then give up the present connection."""
        self._stale = True
        self._wake.set()

    async def run(self) -> None:
        """Connect, send, and connect again, until cancelled."""
        while True:
            try:
                await self._connected()
            except (OSError, SwarmError, TimeoutError) as error:
                _log.debug("no way to manager %s at %s: %s", self._peer, self.address, error)
            await self._clock.sleep(self._backoff.next())

    async def _connected(self) -> None:
        """One link: its connection, and after it those that show newer certificates, until one is lost."""
        reader, writer = await self._open()
        try:
            self._backoff.reset()
            self._up = True
            self._on_link(True)
            while await self._carry(reader, writer):
                fresh = await self._open()
                writer.transport.abort()
                reader, writer = fresh
        finally:
            writer.transport.abort()
            self._queue.clear()
            self._bytes = 0
            self._up = False
            self._on_link(False)

    async def _open(self) -> Streams:
        """A connection that the other end has accepted."""
        self._stale = False
        hello = pb.PeerHello(cluster_id=self._cluster_id(), node_id=self._own_id, lane=pb.PEER_LANE_RAFT)
        reader, writer = await connect(self.address, self._context(), self._peer)
        try:
            self._check(self._peer, shown_certificate(writer))
            async with asyncio.timeout(_CONNECT_SECONDS):
                await write_frame(writer, pb.PeerFrame(hello=hello))
                answer = await read_frame(reader)
            if answer is None or answer.WhichOneof("body") != "hello":
                raise Unavailable(f"Manager {self._peer} did not accept the connection.")
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send over this connection until it is lost, or (True) another one is to take its place."""
        self._gone, self._writer = False, writer
        try:
            async with TaskGroup() as group:
                end = group.create_task(self._await_end(reader), name="end")
                try:
                    await self._send_all(writer)
                except OSError:
                    self._gone = True
                end.cancel()
        finally:
            self._writer = None
        return not self._gone

    async def _await_end(self, reader: asyncio.StreamReader) -> None:
        """Notice at once that the other end is gone: it says nothing after its hello."""
        with contextlib.suppress(OSError):
            await reader.read(1)
        self._gone = True
        self._wake.set()

    async def _send_all(self, writer: asyncio.StreamWriter) -> None:
        """Write what is queued until the other end is gone, or the connection is to be another one."""
        while not self._gone and not self._stale:
            data = bytearray()
            while self._queue and len(data) < _WRITE_BYTES:
                data += self._queue.popleft()
            if data:
                self._bytes -= len(data)
                writer.write(bytes(data))
                await writer.drain()
                continue
            self._wake.clear()
            await self._wake.wait()


async def fetch_base(
    peer: str,
    address: str,
    hello: pb.PeerHello,
    request: pb.SnapshotRequest,
    context: ssl.SSLContext,
    check: Check,
) -> AsyncIterator[pb.SnapshotChunk]:
    """The chunks of ``peer``'s base; none when it has nothing new enough.

    Raises OSError or TimeoutError when the way breaks before the end, Invalid for nonsense, Denied for a
    certificate that does not count.  A way that is cut off is noticed after 2 seconds, by the kernel's
    probes, which a slow one answers.
    """
    reader, writer = await connect(address, context, peer)
    try:
        _notice_cut(writer.get_extra_info("socket"))
        check(peer, shown_certificate(writer))
        await write_frame(writer, pb.PeerFrame(hello=hello))
        await write_frame(writer, pb.PeerFrame(snapshot_request=request))
        received, total = 0, 0
        while True:
            async with asyncio.timeout(_CONNECT_SECONDS * 4):
                frame = await read_frame(reader)
            if frame is None:
                break
            if frame.WhichOneof("body") != "snapshot_chunk":
                raise Invalid(f"Manager {peer} sent something else on the snapshot lane.")
            chunk = frame.snapshot_chunk
            received, total = chunk.offset + len(chunk.data), chunk.total_size
            yield chunk
        if received != total:
            raise ConnectionResetError(f"manager {peer} ended after {received} of {total} bytes")
    finally:
        writer.transport.abort()


def _notice_cut(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _CUT_MILLISECONDS)


async def ask_to_join(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: pb.JoinRequest
) -> pb.JoinReply:
    """One request on the join lane of a fresh connection, which the caller closes.

    Raises the SwarmError that the manager answered with, Unavailable when the other end is none, OSError.
    """
    await write_frame(writer, pb.PeerFrame(hello=pb.PeerHello(lane=pb.PEER_LANE_JOIN)))
    await write_frame(writer, pb.PeerFrame(join_request=request))
    frame = await read_frame(reader)
    if frame is None or frame.WhichOneof("body") != "join_reply":
        raise Unavailable("the other end is no swarm manager, or closed the connection")
    reply = frame.join_reply
    if reply.error_kind:
        raise KINDS.get(reply.error_kind, SwarmError)(reply.error)
    return reply
