"""Certificates against real TLS: who gets through which port, and what happens to whoever is through already.

The dates are made with the authority's own functions: the libraries look at this machine's clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from swarmd.daemon.lanes import LaneRule, cut_those_who_may_not
from swarmd.daemon.renewal import renew_expired
from swarmd.kit.clock import SystemClock
from swarmd.kit.supervise import Nursery
from swarmd.manager.authority import Authority
from swarmd.manager.authority_server import JoinLane
from swarmd.model.errors import Denied
from swarmd.model.objects import Cluster, Node, NodeCertificate, NodeStatus, RemovedNode
from swarmd.model.replace import replace
from swarmd.model.spec import NodeSpec
from swarmd.model.states import Role
from swarmd.rpc.frames import read_frame, write_frame
from swarmd.rpc.peer import PeerServer
from swarmd.rpc.peer_client import PeerClient
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.security import ca
from swarmd.security.identity import (
    Contexts,
    Credentials,
    client_context,
    grpc_channel_credentials,
    joiner_context,
)
from swarmd.security.issuing import Signer
from swarmd.store.core.transaction import Delete, Put
from swarmd.store.raft.single import SingleProposer
from swarmd.store.store import Store, StoreState
from tests.unit.test_rpc_roles import Port

HOUR = 3600.0
OUT, IN = "out", "in"


class ClusterPort:
    """A manager's cluster port on loopback, as a daemon has it, over a store of one manager."""

    def __init__(self, scratch: Path) -> None:
        self.clock, self.scratch = SystemClock(), scratch
        self.signer = Signer(*ca.new_root(self.clock.now()))
        state = StoreState()
        self.store = Store(state, SingleProposer(state), self.clock)
        self.own = self.certified("m1")
        rule = LaneRule(
            lambda: self.store,
            self.clock,
            is_with=lambda node_id: False,
            trusted=lambda: self.own.root,
        )
        authority = Authority(self.store, self.clock, lambda: "new")
        lane = JoinLane(authority, self.nobody_else, lambda: self.signer.root, list)
        self.contexts = Contexts(lambda: self.own, scratch)
        self.server = PeerServer(
            node_id="m1",
            cluster_id=lambda: "c1",
            context=self.contexts.server,
            on_join=lane.answer,
            check=rule.check,
        )
        self.server.attach(self)
        self.nursery = Nursery(lambda name, error: None)
        self.heard: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self._open: list[asyncio.StreamWriter] = []

    async def nobody_else(self) -> None:
        return None

    def on_frame(self, peer: str, frame: pb.PeerFrame) -> None:
        self.heard.put_nowait((peer, frame.raft.epoch))

    async def serve_base(self, peer: str, request: pb.SnapshotRequest) -> AsyncIterator[pb.SnapshotChunk]:
        yield pb.SnapshotChunk(total_size=1, data=b"x")

    async def start(self) -> None:
        manager = NodeSpec(role=Role.MANAGER)
        rows = [
            Cluster(id="c1", root_ca=self.signer.root, ca_key=self.signer.key, worker_token="w" * 25),
            *(
                Node(id=name, number=number, spec=manager, role=Role.MANAGER)
                for number, name in enumerate(("m1", "m2"), 1)
            ),
            Node(id="demoted", number=3),
            Node(id="worker", number=4),
            RemovedNode(id="removed", until=2e10),
        ]
        await self.store.commit([Put(row) for row in rows])
        self.port = await self.server.start("127.0.0.1", 0)
        self.nursery.start("cut", cut_those_who_may_not(self.store, self.server.recheck))

    async def stop(self) -> None:
        for writer in self._open:
            writer.transport.abort()
        await self.nursery.close()
        await self.server.close()

    def certified(
        self,
        node_id: str,
        role: Role = Role.MANAGER,
        *,
        signer: Signer | None = None,
        ago: float = 0.0,
        life: float = 2 * HOUR,
        root: bytes = b"",
    ) -> Credentials:
        """A certificate made ``ago`` seconds before now."""
        key = ca.new_key()
        signed = (signer or self.signer).sign(
            ca.new_request(key), ca.Identity(node_id, role, "c1"), now=self.clock.now() - ago, life=life
        )
        return Credentials(key=key, certificate=signed, root=root or self.signer.root)

    async def used_last(self, who: Credentials) -> None:
        """The node said in its hello that this is its certificate."""
        row = self.store.get(Node, who.identity.node_id)
        assert row is not None
        used = NodeCertificate(valid_from=ca.validity(who.certificate)[0])
        await self.store.commit([Put(replace(row, status=NodeStatus(certificate=used)))])

    async def opens(self, who: Credentials | None, lane: int, node_id: str) -> str:
        """How far somebody comes on that lane."""
        context = joiner_context(self.signer.root) if who is None else client_context(who, self.scratch)
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.port, ssl=context, server_hostname="swarm-manager"
            )
            self._open.append(writer)
            hello = pb.PeerHello(cluster_id="c1", node_id=node_id, lane=cast("Any", lane))
            await write_frame(writer, pb.PeerFrame(hello=hello))
            if lane == pb.PEER_LANE_JOIN:
                await write_frame(writer, pb.PeerFrame(join_request=pb.JoinRequest()))
            if lane == pb.PEER_LANE_SNAPSHOT:
                await write_frame(writer, pb.PeerFrame(snapshot_request=pb.SnapshotRequest()))
            return OUT if await read_frame(reader) is None else IN
        except OSError:
            return OUT


async def comes_true(condition: Callable[[], bool]) -> None:
    """Within five seconds of real time: sockets are involved."""
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("this never happened")


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[ClusterPort]:
    port = ClusterPort(tmp_path)
    await port.start()
    async with asyncio.timeout(60):
        yield port
    await port.stop()


STRANGERS = {
    "nobody": (IN, OUT, OUT),
    "foreign root": (OUT, OUT, OUT),
    "foreign chain": (OUT, OUT, OUT),
    "worker": (IN, OUT, OUT),
    "manager": (IN, IN, IN),
    "removed": (IN, OUT, OUT),
    "demoted": (IN, OUT, OUT),
    "expired manager": (IN, IN, IN),
    "expired worker": (IN, OUT, OUT),
    "expired and replaced": (IN, OUT, OUT),
    "expired and unknown": (IN, OUT, OUT),
    "of tomorrow": (IN, OUT, OUT),
}
"""Who -> how far on the join, raft and snapshot lane."""


async def caller(port: ClusterPort, kind: str) -> Credentials | None:
    """Somebody of that kind, and what the store knows of it."""
    other = Signer(*ca.new_root(port.clock.now()))
    worker = port.certified("worker", Role.WORKER)
    last = port.certified("m2", ago=5 * HOUR)
    if kind == "expired manager":
        await port.used_last(last)
    if kind == "expired and replaced":
        await port.used_last(port.certified("m2"))
    return {
        "nobody": None,
        "foreign root": port.certified("m2", signer=other),
        # a worker's key used as if it were an authority's
        "foreign chain": port.certified(
            "m2", signer=Signer(worker.certificate, worker.key, worker.certificate)
        ),
        "worker": worker,
        "manager": port.certified("m2"),
        "removed": port.certified("removed"),
        "demoted": port.certified("demoted"),
        "expired manager": last,
        "expired worker": port.certified("worker", Role.WORKER, ago=5 * HOUR),
        "expired and replaced": last,
        "expired and unknown": port.certified("m9", ago=5 * HOUR),
        "of tomorrow": port.certified("m2", ago=-24 * HOUR),
    }[kind]


@pytest.mark.parametrize("kind", STRANGERS)
async def test_who_comes_how_far_on_the_cluster_port(port: ClusterPort, kind: str) -> None:
    who = await caller(port, kind)
    node_id = who.identity.node_id if who is not None else "m2"
    lanes = (pb.PEER_LANE_JOIN, pb.PEER_LANE_RAFT, pb.PEER_LANE_SNAPSHOT)
    assert tuple([await port.opens(who, lane, node_id) for lane in lanes]) == STRANGERS[kind]


@pytest.mark.parametrize("fate", ["removed", "demoted"])
async def test_an_open_lane_ends_with_the_right_to_it(port: ClusterPort, fate: str) -> None:
    assert await port.opens(port.certified("m2"), pb.PEER_LANE_RAFT, "m2") == IN
    row = port.store.get(Node, "m2")
    assert row is not None
    if fate == "removed":
        await port.store.commit([Delete(Node, "m2", row.version), Put(RemovedNode(id="m2", until=2e10))])
    else:
        await port.store.commit([Put(replace(row, spec=NodeSpec(), role=Role.WORKER))])
    await comes_true(lambda: not port.server._lanes)
    assert await port.opens(port.certified("m2"), pb.PEER_LANE_RAFT, "m2") == OUT


async def test_an_expired_node_gets_a_new_certificate_over_the_join_lane_and_a_removed_one_none(
    port: ClusterPort,
) -> None:
    address = f"127.0.0.1:{port.port}"
    fresh = await renew_expired(port.certified("worker", Role.WORKER, ago=5 * HOUR), [address])
    assert fresh.identity == ca.Identity("worker", Role.WORKER, "c1")
    assert ca.validity(fresh.certificate)[1] > time.time()
    with pytest.raises(Denied, match="not part of this swarm any more"):
        await renew_expired(port.certified("removed", ago=5 * HOUR), [address])


async def test_a_lane_goes_over_to_a_new_certificate_without_a_moment_between(port: ClusterPort) -> None:
    """The second connection stands before the first one goes, and nothing that waits is lost."""
    links: list[bool] = []
    contexts = Contexts(lambda: port.certified("m2"), port.scratch)
    client = PeerClient(
        peer="m1",
        address=f"127.0.0.1:{port.port}",
        own_id="m2",
        cluster_id=lambda: "c1",
        context=contexts.client,
        on_link=links.append,
        clock=port.clock,
        fraction=lambda: 0.5,
        check=lambda node_id, certificate: None,
    )
    running = port.nursery.start("client", client.run())
    await comes_true(lambda: bool(links))
    first = next(iter(port.server._lanes))
    client.refresh()
    await comes_true(lambda: first not in port.server._lanes)
    assert client.send(pb.PeerFrame(raft=pb.RaftBatch(epoch=7)))
    assert await port.heard.get() == ("m2", 7)
    assert links == [True], "nobody saw it go"
    running.cancel()


# -- the node port -------------------------------------------------------------------------------


@pytest.fixture
async def node_port() -> AsyncIterator[Port]:
    port = Port()
    await port.start()
    async with asyncio.timeout(60):
        yield port
    await port.stop()


def member(port: Port, *, life: float = 400 * 86400.0, signer: Signer | None = None) -> Credentials:
    key = ca.new_key()
    certificate = (signer or Signer(port.root, port.root_key)).sign(
        ca.new_request(key), ca.Identity("worker", Role.WORKER, "c1"), now=time.time(), life=life
    )
    return Credentials(key=key, certificate=certificate, root=port.root)


def stub(port: Port, who: Credentials | None) -> Any:
    options = (("grpc.ssl_target_name_override", "manager"),)
    shown = (
        grpc.ssl_channel_credentials(root_certificates=port.root)
        if who is None
        else grpc_channel_credentials(who)
    )
    channel = grpc.aio.secure_channel(f"127.0.0.1:{port.port}", shown, options=options)
    port.channels.append(channel)
    return agent_pb2_grpc.AuthorityStub(channel)


async def test_an_expired_certificate_opens_nothing_on_the_node_port_not_even_its_renewal(
    node_port: Port,
) -> None:
    request = agent_pb2.RenewRequest(csr_pem=ca.new_request(ca.new_key()))
    assert (await stub(node_port, member(node_port)).Renew(request, timeout=60)).certificate_pem
    foreign = Signer(*ca.new_root(time.time()))
    for who in (None, member(node_port, life=-60.0), member(node_port, signer=foreign)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub(node_port, who).Renew(request, timeout=60)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE, "TLS itself says no"


async def test_a_connection_does_not_outlive_the_dates_and_the_root_of_its_certificate(
    node_port: Port,
) -> None:
    request = agent_pb2.RenewRequest(csr_pem=ca.new_request(ca.new_key()))
    standing = stub(node_port, member(node_port, life=300 * 86400.0))
    await standing.Renew(request, timeout=60)
    before, node_port.root = node_port.root, ca.new_root(time.time())[0]
    with pytest.raises(grpc.aio.AioRpcError, match="of a root that is trusted no more"):
        await standing.Renew(request, timeout=60)
    node_port.root = before
    await standing.Renew(request, timeout=60)
    node_port.clock.advance(300 * 86400.0)
    with pytest.raises(grpc.aio.AioRpcError, match="has expired: it may only be renewed"):
        await standing.Renew(request, timeout=60)


async def test_an_open_stream_is_cut_when_its_caller_is_removed(node_port: Port) -> None:
    options = (("grpc.ssl_target_name_override", "manager"),)
    channel = grpc.aio.secure_channel(
        f"127.0.0.1:{node_port.port}", grpc_channel_credentials(member(node_port)), options=options
    )
    node_port.channels.append(channel)
    session = agent_pb2_grpc.DispatcherStub(channel).Session()
    await session.write(agent_pb2.AgentMessage(hello=agent_pb2.AgentHello(address="10.0.0.7")))
    assert isinstance(await session.read(), agent_pb2.ManagerMessage)
    node_port.calls.recheck()
    assert isinstance(await session.read(), agent_pb2.ManagerMessage), "it may go on"
    row = node_port.store.get(Node, "worker")
    assert row is not None
    await node_port.store.commit(
        [Delete(Node, "worker", row.version), Put(RemovedNode(id="worker", until=2e10))]
    )
    node_port.calls.recheck()

    async def read_all() -> None:
        while await session.read() is not grpc.aio.EOF:
            pass

    with pytest.raises(grpc.aio.AioRpcError, match="not part of this swarm any more"):
        await read_all()
    assert not node_port.calls._open
