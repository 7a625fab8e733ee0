"""Managers over real sockets: TLS 1.3 with certificates of both ends, on the loopback interface."""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from swarmd.kit.clock import SystemClock
from swarmd.model.errors import Denied
from swarmd.rpc.frames import read_frame, write_frame
from swarmd.rpc.peer import MANAGER_ROLE, PeerServer
from swarmd.rpc.peer_client import ask_to_join, connect
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.node import RaftNode
from swarmd.store.raft.port import StateView
from swarmd.store.raft.sockets import PeerTransport
from swarmd.store.raft.timing import Timing
from tests.unit.proxied import free_port

CLUSTER = "cluster1"
pytestmark = pytest.mark.usefixtures("own_time")
FAST = Timing(0.5)


class Authority:
    """A root that signs node certificates into files of ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test root")])
        self._root = self._sign(name, name, self._key, [], root=True)
        self.root_file = directory / "root.pem"
        self.root_file.write_bytes(self._root.public_bytes(serialization.Encoding.PEM))

    def _sign(
        self,
        subject: x509.Name,
        issuer: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        names: list[str],
        *,
        root: bool = False,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
        )
        if names:
            san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(san, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def issue(self, node: str, role: str = "swarm-manager", cluster: str = CLUSTER) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
                x509.NameAttribute(NameOID.COMMON_NAME, node),
            ]
        )
        certificate = self._sign(subject, self._root.subject, key, [node, role])
        path = self._directory / f"{node}-{role}-{cluster}.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return path

    def server(self, pem: Path) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(pem)
        context.load_verify_locations(self.root_file)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def client(self, pem: Path | None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(self.root_file)
        if pem is not None:
            context.load_cert_chain(pem)
        return context


class Journal:
    def __init__(self) -> None:
        self.commands: list[str] = []

    def apply(self, index: int, command: bytes) -> object:
        self.commands.append(command.decode())
        return index

    def view(self) -> StateView:
        commands = list(self.commands)
        return lambda: [json.dumps(commands).encode()]

    def restore(self, index: int, data: bytes) -> None:
        self.commands = json.loads(data)


class Manager:
    """One manager with its own listening port."""

    def __init__(self, name: str, directory: Path, authority: Authority) -> None:
        self.name = name
        self.machine = Journal()
        self.pem = authority.issue(name)
        self._directory = directory / name
        self._authority = authority
        self.server = PeerServer(
            node_id=name,
            cluster_id=lambda: CLUSTER,
            context=lambda: authority.server(self.pem),
            on_join=self._on_join,
        )
        self.joined_from: list[str] = []
        self.address = ""
        self.node: RaftNode | None = None

    async def _on_join(self, request: pb.JoinRequest, peer_address: str) -> pb.JoinReply:
        self.joined_from.append(peer_address)
        if request.token_secret != "secret":
            raise Denied("The join token is not valid.")
        return pb.JoinReply(node_id=request.node_id, cluster_id=CLUSTER)

    async def listen(self, port: int) -> None:
        self.address = f"127.0.0.1:{await self.server.start('127.0.0.1', port)}"

    async def start(self, **how: object) -> RaftNode:
        transport = PeerTransport(
            node_id=self.name,
            cluster_id=lambda: CLUSTER,
            server=self.server,
            context=lambda: self._authority.client(self.pem),
            clock=SystemClock(),
        )
        self.node = RaftNode(
            node_id=self.name,
            address=self.address,
            data_dir=self._directory,
            state_machine=self.machine,
            transport=transport,
            clock=SystemClock(),
            timing=FAST,
            roll_entries=200,
        )
        await self.node.start(**how)  # type: ignore[arg-type]
        return self.node

    async def stop(self) -> None:
        if self.node is not None:
            await self.node.stop()
            self.node = None
        await self.server.close()


class Cluster:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory)
        self.managers: dict[str, Manager] = {}

    async def listen(self, name: str) -> Manager:
        manager = Manager(name, self.directory, self.authority)
        await manager.listen(free_port())  # nobody gets it while this manager is away
        self.managers[name] = manager
        return manager

    def members(self, names: str) -> dict[str, str]:
        return {name: self.managers[name].address for name in names}

    async def found(self, names: str) -> RaftNode:
        for name in names:
            await self.listen(name)
        for name in names:
            await self.managers[name].start(bootstrap_members=self.members(names))
        return await self.led()

    async def led(self) -> RaftNode:
        def leader() -> RaftNode | None:
            nodes = [manager.node for manager in self.managers.values()]
            return next((node for node in nodes if node is not None and node.is_leader()), None)

        await until(leader)
        node = leader()
        assert node is not None
        return node

    async def agree(self, names: str, commands: list[str]) -> None:
        await until(lambda: all(self.managers[name].machine.commands == commands for name in names))


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.005)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    for manager in made.managers.values():
        await manager.stop()


async def test_three_managers_agree_lose_their_leader_and_take_it_back(cluster: Cluster) -> None:
    leader = await cluster.found("abc")
    await asyncio.gather(*(leader.propose(b"%d" % number) for number in range(50)))
    lost = str(leader.status().leader)
    port = int(cluster.managers[lost].address.rpartition(":")[2])
    await cluster.managers[lost].stop()
    leader = await cluster.led()
    await leader.propose(b"after")

    returned = Manager(lost, cluster.directory, cluster.authority)
    cluster.managers[lost] = returned
    await returned.listen(port)
    await returned.start()
    expected = cluster.managers[str(leader.status().leader)].machine.commands
    assert sorted(expected) == sorted([*(str(n) for n in range(50)), "after"])
    await cluster.agree("abc", expected)


async def test_a_manager_joins_by_snapshot_and_the_first_leaves(cluster: Cluster) -> None:
    leader = await cluster.found("a")
    # The base must take several pieces.
    commands = [str(number) * 500 for number in range(1000, 1700)]
    await asyncio.gather(*(leader.propose(command.encode()) for command in commands))
    for name in "bc":
        await cluster.listen(name)
        await cluster.managers[name].start(peers=cluster.members("a"))
    await leader.change_members(cluster.members("abc"))
    await cluster.agree("abc", commands)
    leader = await cluster.led()
    await leader.change_members(cluster.members("bc"))
    first = cluster.managers["a"].node
    assert first is not None
    await until(lambda: first.status().role == "stopped")
    leader = await cluster.led()
    await leader.propose(b"end")
    await cluster.agree("bc", [*commands, "end"])


async def test_a_manager_that_moved_is_found_at_its_new_port(cluster: Cluster) -> None:
    leader = await cluster.found("abc")
    moved = next(name for name in "abc" if name != leader.status().leader)
    before = cluster.managers[moved].address
    await cluster.managers[moved].stop()
    await cluster.listen(moved)
    assert cluster.managers[moved].address != before
    await cluster.managers[moved].start()
    await until(lambda: leader.status().members[moved] == cluster.managers[moved].address)
    await leader.propose(b"x")
    await cluster.agree("abc", ["x"])


async def refused(cluster: Cluster, context: ssl.SSLContext, hello: pb.PeerHello) -> bool:
    """The manager ends a connection that says ``hello`` instead of answering it."""
    try:
        reader, writer = await connect(cluster.managers["a"].address, context, "a")
    except OSError:
        return True
    try:
        await write_frame(writer, pb.PeerFrame(hello=hello))
        async with asyncio.timeout(60):
            return await read_frame(reader) is None
    except OSError:
        return True
    finally:
        writer.transport.abort()


async def test_the_raft_lane_is_for_managers_of_this_swarm_under_their_own_name(cluster: Cluster) -> None:
    await cluster.found("a")
    authority = cluster.authority

    def hello(node: str, lane: pb.PeerLane.ValueType = pb.PEER_LANE_RAFT) -> pb.PeerHello:
        return pb.PeerHello(cluster_id=CLUSTER, node_id=node, lane=lane)

    manager = authority.client(authority.issue("m"))
    assert not await refused(cluster, manager, hello("m"))
    assert await refused(cluster, manager, hello("a"))
    assert await refused(cluster, authority.client(None), hello("m"))
    assert await refused(cluster, authority.client(None), hello("m", pb.PEER_LANE_SNAPSHOT))
    assert await refused(cluster, authority.client(authority.issue("w", "swarm-worker")), hello("w"))
    stranger = authority.client(authority.issue("s", cluster="another"))
    assert await refused(cluster, stranger, hello("s"))
    (cluster.directory / "foreign").mkdir()
    foreign = Authority(cluster.directory / "foreign").issue("f")
    assert await refused(cluster, authority.client(foreign), hello("f"))


async def test_a_server_with_another_managers_certificate_is_not_spoken_to(cluster: Cluster) -> None:
    await cluster.found("a")
    context = cluster.authority.client(cluster.authority.issue("m"))
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(cluster.managers["a"].address, context, "b")


async def test_a_newer_connection_closes_the_older(cluster: Cluster) -> None:
    await cluster.found("a")
    context = cluster.authority.client(cluster.authority.issue("m"))
    hello = pb.PeerFrame(hello=pb.PeerHello(cluster_id=CLUSTER, node_id="m", lane=pb.PEER_LANE_RAFT))
    first, first_writer = await connect(cluster.managers["a"].address, context, "a")
    await write_frame(first_writer, hello)
    assert await read_frame(first) is not None
    second, second_writer = await connect(cluster.managers["a"].address, context, "a")
    await write_frame(second_writer, hello)
    assert await read_frame(second) is not None
    try:
        async with asyncio.timeout(60):
            assert await first.read() == b""
    except ConnectionResetError:
        pass
    assert not second.at_eof()
    first_writer.transport.abort()
    second_writer.transport.abort()


async def ask(address: str, context: ssl.SSLContext, request: pb.JoinRequest) -> pb.JoinReply:
    reader, writer = await connect(address, context, MANAGER_ROLE)
    try:
        return await ask_to_join(reader, writer, request)
    finally:
        writer.transport.abort()


async def test_a_stranger_may_ask_to_join_and_nothing_else(cluster: Cluster) -> None:
    await cluster.found("a")
    manager = cluster.managers["a"]
    context = cluster.authority.client(None)
    reply = await ask(manager.address, context, pb.JoinRequest(token_secret="secret", node_id="n"))
    assert (reply.node_id, reply.cluster_id) == ("n", CLUSTER)
    assert manager.joined_from == ["127.0.0.1"]
    with pytest.raises(Denied, match="not valid"):
        await ask(manager.address, context, pb.JoinRequest(token_secret="guess"))


async def test_new_connections_use_the_certificate_of_the_moment(cluster: Cluster) -> None:
    await cluster.found("a")
    manager = cluster.managers["a"]
    context = cluster.authority.client(None)

    async def serial() -> bytes:
        _, writer = await connect(manager.address, context, "a")
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        return bytes(certificate)

    before = await serial()
    manager.pem = cluster.authority.issue("a")
    assert await serial() != before
