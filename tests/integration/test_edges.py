"""The edges of a node against those who mean it no good, and against bad nights: real TLS on loopback."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast
from unittest import mock

import grpc
import pytest

from swarmd.control.cluster import Founding
from swarmd.daemon import managing as managing_module
from swarmd.daemon.config import Backup
from swarmd.daemon.locking import Locking
from swarmd.daemon.managing import Managing
from swarmd.daemon.registry_config import RegistryConfig
from swarmd.daemon.tools.backups import BackupFolder
from swarmd.kit.clock import SystemClock
from swarmd.kit.ids import new_id
from swarmd.model.errors import Denied, Unavailable
from swarmd.model.states import Role
from swarmd.node.distribution import wire
from swarmd.node.distribution.core.choosing import Provider
from swarmd.rpc import channels as channels_module
from swarmd.rpc import peer as peer_module
from swarmd.rpc.admission import Admission
from swarmd.rpc.channels import Channels
from swarmd.rpc.frames import MAX_FRAME_BYTES, read_frame, write_frame
from swarmd.rpc.peer import Identity, PeerServer
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.security import ca
from swarmd.security.identity import (
    Contexts,
    Credentials,
    client_context,
    grpc_channel_credentials,
    grpc_server_credentials,
    joiner_context,
)
from swarmd.security.vault import Vault
from tests.integration.held_port import held_port

pytestmark = pytest.mark.usefixtures("own_time")
GREETING = 0.5


class Authority:
    """Signs what a test wants."""

    def __init__(self) -> None:
        self.root, self.key = ca.new_root(time.time())

    def certify(self, node_id: str, role: Role, cluster_id: str = "c1") -> Credentials:
        key = ca.new_key()
        certificate = ca.sign(
            ca.new_request(key),
            ca.Identity(node_id, role, cluster_id),
            root_pem=self.root,
            root_key_pem=self.key,
            now=time.time(),
            life=7200,
        )
        return Credentials(key=key, certificate=certificate, root=self.root)


class Handler:
    """Takes frames of managers."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[str] = asyncio.Queue()

    def on_frame(self, peer: str, frame: pb.PeerFrame) -> None:
        self.heard.put_nowait(peer)

    async def serve_base(self, peer: str, request: pb.SnapshotRequest) -> AsyncIterator[pb.SnapshotChunk]:
        yield pb.SnapshotChunk()


class ClusterPort:
    """A manager's cluster port on loopback that lets two strangers of one address in."""

    def __init__(self, scratch: Path) -> None:
        self.authority, self.scratch, self.handler = Authority(), scratch, Handler()
        own = self.authority.certify("m1", Role.MANAGER)
        self.gone: set[str] = set()
        self.refused: list[tuple[str, Identity | None, str]] = []
        self.server = PeerServer(
            node_id="m1",
            cluster_id=lambda: "c1",
            context=Contexts(lambda: own, scratch).server,
            on_join=self.join,
            check=self.check,
            admission=Admission(most_of_one=2),
            on_refused=lambda *told: self.refused.append(told),
        )
        self.server.attach(self.handler)
        self._open: list[asyncio.StreamWriter] = []

    def check(self, node_id: str, certificate: bytes = b"") -> None:
        if node_id in self.gone:
            raise Denied(f"node {node_id} is not part of this swarm any more")

    async def join(self, request: pb.JoinRequest, address: str) -> pb.JoinReply:
        return pb.JoinReply(root_ca_pem=self.authority.root)

    async def start(self) -> None:
        self.port = await self.server.start("127.0.0.1", 0)

    async def stop(self) -> None:
        for writer in self._open:
            writer.transport.abort()
        await self.server.close()

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._open.append(writer)
        return reader, writer

    async def tls(self, who: Credentials | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = joiner_context(self.authority.root) if who is None else client_context(who, self.scratch)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname="swarm-manager"
        )
        self._open.append(writer)
        return reader, writer

    async def joins(self) -> bool:
        """Whether a stranger gets an answer."""
        try:
            reader, writer = await self.tls()
            await write_frame(writer, pb.PeerFrame(hello=pb.PeerHello(lane=pb.PEER_LANE_JOIN)))
            await write_frame(writer, pb.PeerFrame(join_request=pb.JoinRequest()))
            return await read_frame(reader) is not None
        except OSError:
            return False

    async def raft(self, who: Credentials, node_id: str) -> bool:
        """Whether a frame of that peer is heard."""
        reader, writer = await self.tls(who)
        hello = pb.PeerHello(cluster_id="c1", node_id=node_id, lane=pb.PEER_LANE_RAFT)
        try:
            await write_frame(writer, pb.PeerFrame(hello=hello))
            if await read_frame(reader) is None:
                return False
            await write_frame(writer, pb.PeerFrame(hello=hello))
        except OSError:
            return False
        return await self.handler.heard.get() == node_id


@pytest.fixture
async def cluster_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClusterPort]:
    monkeypatch.setattr(peer_module, "_GREETING_SECONDS", GREETING)
    port = ClusterPort(tmp_path)
    await port.start()
    async with asyncio.timeout(60):
        yield port
    await port.stop()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Waits until the other end is gone."""
    try:
        while await reader.read(65536):
            pass
    except OSError:
        pass
    return True


async def test_who_says_nothing_is_let_go_and_holds_no_place(cluster_port: ClusterPort) -> None:
    silent = [await cluster_port.raw(), await cluster_port.tls()]
    assert not await cluster_port.joins(), "this address has all its places taken"
    manager = cluster_port.authority.certify("m2", Role.MANAGER)
    for reader, _ in silent:
        assert await ended(reader)
    assert await cluster_port.joins()
    assert await cluster_port.raft(manager, "m2")


async def test_a_greeting_that_drips_is_cut_by_the_clock(cluster_port: ClusterPort) -> None:
    reader, writer = await cluster_port.tls()
    writer.write(struct.pack(">I", 60_000))

    async def drip() -> None:
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(GREETING / 20)

    dripping = asyncio.ensure_future(drip())
    assert await ended(reader)
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", MAX_FRAME_BYTES),
        struct.pack(">I", 0xFFFFFFFF) + b"x" * 1000,
        struct.pack(">I", 4) + b"\xff\xff\xff\xff",
        struct.pack(">I", 0),
        pb.PeerFrame(hello=pb.PeerHello(lane=pb.PEER_LANE_RAFT, node_id="m1")).SerializeToString(),
    ],
    ids=["too long for a stranger", "absurd length", "no message", "empty", "no length"],
)
async def test_garbage_ends_one_connection_and_no_more(cluster_port: ClusterPort, data: bytes) -> None:
    reader, writer = await cluster_port.tls()
    writer.write(data)
    assert await ended(reader)
    assert await cluster_port.joins()


async def test_garbage_before_tls_is_no_concern(cluster_port: ClusterPort) -> None:
    reader, writer = await cluster_port.raw()
    writer.write(b"GET / HTTP/1.1\r\n\r\n" * 100)
    assert await ended(reader)
    assert await cluster_port.joins()


async def test_the_raft_lane_is_for_managers_that_are_still_some(cluster_port: ClusterPort) -> None:
    certify = cluster_port.authority.certify
    assert await cluster_port.raft(certify("m2", Role.MANAGER), "m2")
    assert not await cluster_port.raft(certify("w1", Role.WORKER), "w1")
    assert not await cluster_port.raft(certify("m2", Role.MANAGER), "m3"), "a name that is not its own"
    assert not await cluster_port.raft(certify("m2", Role.MANAGER, "c2"), "m2"), "another swarm's"
    cluster_port.gone.add("m2")
    assert not await cluster_port.raft(certify("m2", Role.MANAGER), "m2"), "it was removed"


async def test_connections_that_fail_in_their_handshake_are_told_with_the_reason(
    cluster_port: ClusterPort,
) -> None:
    reader, writer = await cluster_port.raw()
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await ended(reader)
    foreign = Authority().certify("m2", Role.MANAGER)
    trusting = Credentials(key=foreign.key, certificate=foreign.certificate, root=cluster_port.authority.root)
    assert not await cluster_port.raft(trusting, "m2")
    told = [(address, who, why) for address, who, why in cluster_port.refused]
    assert [(address, who) for address, who, _ in told] == [("127.0.0.1", None)] * 2
    assert "http request" in told[0][2]
    assert "self-signed" in told[1][2] or "issuer" in told[1][2] or "verify" in told[1][2]


async def test_certificates_that_are_refused_are_told_with_their_owner(cluster_port: ClusterPort) -> None:
    certify = cluster_port.authority.certify
    assert not await cluster_port.raft(certify("w1", Role.WORKER), "w1")
    cluster_port.gone.add("m2")
    assert not await cluster_port.raft(certify("m2", Role.MANAGER), "m2")
    assert [(who and who.node_id, why) for _, who, why in cluster_port.refused] == [
        ("w1", "This lane is for managers; node w1 is a swarm-worker."),
        ("m2", "node m2 is not part of this swarm any more"),
    ]


async def test_who_connects_and_only_goes_away_is_not_told_as_refused(cluster_port: ClusterPort) -> None:
    _, writer = await cluster_port.raw()
    writer.close()
    _, writer = await cluster_port.tls()
    writer.close()
    assert await cluster_port.joins()
    assert cluster_port.refused == []


async def test_managers_take_no_places_of_strangers(cluster_port: ClusterPort) -> None:
    for number in range(2, 6):
        who = cluster_port.authority.certify(f"m{number}", Role.MANAGER)
        assert await cluster_port.raft(who, f"m{number}")
    assert await cluster_port.joins()


def test_places_are_counted_by_address_and_in_all() -> None:
    admission = Admission(most=4, most_of_one=2)
    assert [admission.enter("10.0.0.1") for _ in range(3)] == [True, True, False]
    assert [admission.enter(f"fd00::{n}") for n in range(1, 4)] == [True, True, False], "one host, many names"
    assert not admission.enter("10.0.0.2"), "four in all"
    admission.leave("fd00::1")
    assert admission.enter("10.0.0.2")


# -- channels and transfers ----------------------------------------------------------------------


class Peer(agent_pb2_grpc.NodePeerServicer):
    """Sends a blob piece by piece, as a test lets it."""

    def __init__(self) -> None:
        self.go = asyncio.Semaphore(0)
        self.serials: list[str] = []

    async def GetManifest(self, request: Any, context: Any) -> Any:  # noqa: N802
        identity = ca.identity_of(bytes(context.auth_context()["x509_pem_cert"][0]))
        return agent_pb2.GetManifestResponse(data=identity.node_id.encode())

    async def GetBlob(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        for number in range(3):
            await self.go.acquire()
            yield agent_pb2.GetBlobResponse(data=b"%d" % number, size=3 - 3 * bool(number))


class NodePort:
    """A node port with a :class:`Peer`, and channels to it whose certificate changes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.authority, self.peer = Authority(), Peer()  # type: ignore[abstract]
        self.current = self.authority.certify("before", Role.WORKER)
        self.channels = Channels(lambda: grpc_channel_credentials(self.current))
        own = self.authority.certify("holder", Role.WORKER)
        self.server = grpc.aio.server()
        agent_pb2_grpc.add_NodePeerServicer_to_server(self.peer, self.server)
        port = self.server.add_secure_port("127.0.0.1:0", grpc_server_credentials(lambda: own))
        monkeypatch.setattr(channels_module, "host_port", lambda address: f"{address}:{port}")

    async def seen_as(self) -> str:
        stub = agent_pb2_grpc.NodePeerStub(self.channels.to("127.0.0.1", "holder"))
        return (await stub.GetManifest(agent_pb2.GetManifestRequest(), timeout=60)).data.decode()


@pytest.fixture
async def node_port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NodePort]:
    port = NodePort(monkeypatch)
    await port.server.start()
    async with asyncio.timeout(60):
        yield port
    await port.channels.close()
    await port.server.stop(None)


async def test_a_new_certificate_is_shown_at_once_and_cuts_no_stream(node_port: NodePort) -> None:
    assert await node_port.seen_as() == "before"
    with node_port.channels.using("127.0.0.1", "holder") as channel:
        stream = agent_pb2_grpc.NodePeerStub(channel).GetBlob(agent_pb2.GetBlobRequest())
        node_port.peer.go.release()
        first: Any = await stream.read()
        node_port.current = node_port.authority.certify("after", Role.WORKER)
        node_port.channels.renew()
        retiring = asyncio.ensure_future(node_port.channels.retire(grace=0))
        assert await node_port.seen_as() == "after"
        node_port.peer.go.release()
        second: Any = await stream.read()
        assert (first.data, second.data, retiring.done()) == (b"0", b"1", False)
    await retiring
    with pytest.raises((grpc.aio.UsageError, grpc.aio.AioRpcError, asyncio.CancelledError)):
        await agent_pb2_grpc.NodePeerStub(channel).GetManifest(agent_pb2.GetManifestRequest())
    assert await node_port.seen_as() == "after", "the new channel is none of the old ones"


async def test_a_stream_that_never_ends_does_not_keep_its_channel_for_ever(node_port: NodePort) -> None:
    with node_port.channels.using("127.0.0.1", "holder") as channel:
        stream = agent_pb2_grpc.NodePeerStub(channel).GetBlob(agent_pb2.GetBlobRequest())
        node_port.peer.go.release()
        assert isinstance(await stream.read(), agent_pb2.GetBlobResponse)
        node_port.channels.renew()
        await node_port.channels.retire(grace=0, longest=0.05)
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await stream.read()


async def test_a_holder_that_falls_silent_is_given_up(
    node_port: NodePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "SILENCE", 0.2)
    holder = Provider("holder", "127.0.0.1")
    node_port.peer.go.release()
    with pytest.raises(Unavailable, match="sent nothing for"):
        await wire.fetch(node_port.channels, holder, "sha256:x", None)
    monkeypatch.setattr(wire, "SILENCE", 20.0)
    for _ in range(6):  # the stream that was given up may take some of them
        node_port.peer.go.release()
    assert await wire.fetch(node_port.channels, holder, "sha256:x", None) == wire.Answer(b"012", 3)


# -- a founder that crashes ----------------------------------------------------------------------


@pytest.fixture
def cluster_port_number(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The cluster port is one that this machine has free."""
    with held_port() as port:
        monkeypatch.setattr(managing_module, "CLUSTER_PORT", port)
        yield


@pytest.mark.usefixtures("cluster_port_number")
async def test_a_founder_killed_before_its_first_rows_goes_on(tmp_path: Path) -> None:
    authority = Authority()
    own = authority.certify("m1", Role.MANAGER)
    founding = Founding(
        cluster_id="c1", node_id="m1", address="127.0.0.1", root_ca=authority.root, ca_key=authority.key,
        gossip_key=b"g" * 32,
    )  # fmt: skip

    vault = Vault(tmp_path / "vault")
    vault.create()

    def manager() -> Managing:
        return Managing(
            node_id="m1",
            cluster_id="c1",
            address="127.0.0.1",
            listen="127.0.0.1",
            data_dir=tmp_path / "data",
            run_dir=tmp_path / "run",
            reserve=0,
            backups=BackupFolder(tmp_path / "data", Backup()),
            credentials=lambda: own,
            locking=Locking(vault, lambda: None, SystemClock()),
            channels=Channels(lambda: grpc_channel_credentials(own)),
            gossip=dict,
            clock=SystemClock(),
            new_id=new_id,
            content=cast("Any", mock.Mock()),
            blobs=cast("Any", None),
            registry=RegistryConfig(),
            on_left=lambda: None,
            recheck=lambda: None,
        )

    killed = manager()
    await killed.start(bootstrap=True)
    await killed.stop()
    again = manager()
    await again.start(bootstrap=True)
    try:
        assert (await again.found(founding)).id == "c1"
        assert (await again.found(founding)).id == "c1", "done already"
    finally:
        await again.stop()
