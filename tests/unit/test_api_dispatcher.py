"""The Dispatcher service over real mutual TLS: sessions while it leads, a redirect while it does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import pytest

from swarmd.daemon.mesh_reader import MeshReader
from swarmd.kit.supervise import Nursery
from swarmd.manager.dispatcher.dispatcher import Dispatcher
from swarmd.manager.dispatcher.server import DispatcherServer
from swarmd.model.errors import Denied, Invalid, Unavailable
from swarmd.model.objects import Cluster, Node, Service, TaskStatus
from swarmd.model.spec import PortSpec, ServiceSpec
from swarmd.model.states import NodeState, Role, TaskState
from swarmd.rpc import codec, errors
from swarmd.rpc.channels import MAX_MESSAGE, OPTIONS, SERVER_OPTIONS
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc
from swarmd.security import ca
from swarmd.security.identity import Credentials, grpc_channel_credentials, grpc_server_credentials
from tests.unit.test_control_bed import Bed, a_task

HELLO = agent_pb2.AgentMessage(hello=agent_pb2.AgentHello(address="127.0.0.1"))
BEAT = agent_pb2.AgentMessage(heartbeat=agent_pb2.Heartbeat())


class Manager(Bed):
    """A manager's node port on loopback; nodes call it with certificates of its authority."""

    def __init__(self) -> None:
        super().__init__()
        self.root, self.root_key = ca.new_root(time.time())
        self.dispatcher: Dispatcher | None = None
        self.failures: list[BaseException] = []
        self.nursery = Nursery(lambda name, error: self.failures.append(error))
        self.channels: list[grpc.aio.Channel] = []

    async def start(self) -> None:
        await self.put(Cluster(id="c1"), Node(id="n1", number=1))
        self.dispatcher = Dispatcher(self.store, self.clock, gossip=dict, managers=list)
        self.nursery.start("dispatcher", self.dispatcher.run())
        own = self.credentials("m1", Role.MANAGER)
        self.server = grpc.aio.server(options=SERVER_OPTIONS)
        service = DispatcherServer(
            cluster_id=lambda: "c1",
            current=lambda: self.dispatcher,
            redirect=self.redirect,
            nursery=self.nursery,
        )
        agent_pb2_grpc.add_DispatcherServicer_to_server(service, self.server)
        self.port = self.server.add_secure_port("127.0.0.1:0", grpc_server_credentials(lambda: own))
        await self.server.start()

    async def stop(self) -> None:
        for channel in self.channels:
            await channel.close(None)
        await self.server.stop(None)
        await self.nursery.close()

    @staticmethod
    def redirect() -> agent_pb2.Redirect:
        leader = agent_pb2.ManagerPeer(node_id="m2", address="10.0.0.2")
        return agent_pb2.Redirect(leader=leader, managers=[leader])

    def credentials(self, node_id: str, role: Role = Role.WORKER, cluster_id: str = "c1") -> Credentials:
        key = ca.new_key()
        certificate = ca.sign(
            ca.new_request(key),
            ca.Identity(node_id, role, cluster_id),
            root_pem=self.root,
            root_key_pem=self.root_key,
            now=time.time(),
            life=7200,
        )
        return Credentials(key=key, certificate=certificate, root=self.root)

    def stub(self, node_id: str = "n1", cluster_id: str = "c1") -> agent_pb2_grpc.DispatcherAsyncStub:
        channel = grpc.aio.secure_channel(
            f"127.0.0.1:{self.port}",
            grpc_channel_credentials(self.credentials(node_id, cluster_id=cluster_id)),
            options=(*OPTIONS, ("grpc.ssl_target_name_override", "m1")),
        )
        self.channels.append(channel)
        return agent_pb2_grpc.DispatcherStub(channel)


@pytest.fixture
async def manager() -> AsyncIterator[Manager]:
    manager = Manager()
    await manager.start()
    async with asyncio.timeout(60):
        yield manager
    await manager.stop()
    assert manager.failures == []


class Talk:
    """What a node says: the hello, then whatever a test puts in."""

    def __init__(self, first: agent_pb2.AgentMessage = HELLO) -> None:
        self.queue: asyncio.Queue[agent_pb2.AgentMessage | None] = asyncio.Queue()
        self.queue.put_nowait(first)

    async def words(self) -> AsyncIterator[agent_pb2.AgentMessage]:
        while (message := await self.queue.get()) is not None:
            yield message


async def test_a_manager_that_does_not_lead_sends_nodes_on(manager: Manager) -> None:
    manager.dispatcher = None
    (message,) = [message async for message in manager.stub().Session(Talk().words())]
    assert message.redirect.leader.node_id == "m2"
    with pytest.raises(grpc.RpcError) as caught:
        await manager.stub().Leave(agent_pb2.LeaveRequest())
    assert isinstance(errors.from_rpc(caught.value), Unavailable)


async def huge(manager: Manager) -> list[str]:
    """Services whose ports are more than one message may hold: their names are a megabyte each."""
    names = [letter * (1 << 20) for letter in "abcdefghijklmnopqrs"]
    rows = [
        Service(id=name[0], spec=ServiceSpec(name=name), ports=(PortSpec(target=80, published=number),))
        for number, name in enumerate(names, 8000)
    ]
    await manager.put(*rows)
    return names


async def test_a_mesh_larger_than_a_message_reaches_a_node_in_parts(manager: Manager) -> None:
    names = await huge(manager)
    hello = agent_pb2.AgentMessage(hello=agent_pb2.AgentHello(address="127.0.0.1", parts=True))
    reader, read, parts = MeshReader(), None, 0
    async for message in manager.stub().Session(Talk(hello).words()):
        if message.WhichOneof("body") == "network":
            read, parts = reader.read(message.network), parts + 1
            if not message.network.more:
                break
    assert read is not None
    assert [port.service_name for port in read.ports] == names
    assert parts > sum(map(len, names)) // MAX_MESSAGE


async def test_a_node_that_knows_no_parts_is_sent_none(manager: Manager) -> None:
    await huge(manager)
    with pytest.raises(grpc.RpcError) as caught:
        [message async for message in manager.stub().Session(Talk().words())]
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_whole_session_from_hello_to_goodbye(manager: Manager) -> None:
    await manager.put(a_task("t1", "n1", TaskState.ASSIGNED))
    talk, stub = Talk(), manager.stub()
    messages = aiter(stub.Session(talk.words()))
    kinds = [(await anext(messages)).WhichOneof("body") for _ in range(3)]
    assert kinds == ["session", "network", "assignments"]
    batch = agent_pb2.StatusBatch(sequence=4)
    codec.fill(batch.reports.add(task_id="t1").status, TaskStatus(state=TaskState.RUNNING))
    talk.queue.put_nowait(agent_pb2.AgentMessage(statuses=batch))
    while (message := await anext(messages)).WhichOneof("body") != "ack":
        pass
    assert message.ack.sequence == 4
    await stub.Leave(agent_pb2.LeaveRequest())
    talk.queue.put_nowait(None)
    assert [one.WhichOneof("body") async for one in messages if one.WhichOneof("body") == "redirect"] == []
    assert manager.dispatcher is not None
    assert list(manager.dispatcher.connected()) == []
    row = manager.store.get(Node, "n1")
    assert row is not None
    assert row.status.state is NodeState.DOWN


async def test_a_node_that_is_gone_without_a_word_is_no_defect(manager: Manager) -> None:
    talk = Talk()
    call = manager.stub().Session(talk.words())
    await anext(aiter(call))
    call.cancel()
    dispatcher = manager.dispatcher
    assert dispatcher is not None
    watch = manager.store.watch()
    while dispatcher.connected():
        await watch.next()


@pytest.mark.parametrize(
    ("node_id", "cluster_id", "first", "kind"),
    [
        ("stranger", "c1", HELLO, Denied),
        ("n1", "another", HELLO, Denied),
        ("n1", "c1", BEAT, Invalid),
    ],
)
async def test_a_session_that_cannot_begin_says_why(
    manager: Manager, node_id: str, cluster_id: str, first: agent_pb2.AgentMessage, kind: type[Exception]
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        await anext(aiter(manager.stub(node_id, cluster_id).Session(Talk(first).words())))
    assert isinstance(errors.from_rpc(caught.value), kind)
    assert manager.dispatcher is not None
    assert list(manager.dispatcher.connected()) == []


async def test_a_nonsense_status_ends_the_session_and_nothing_else(manager: Manager) -> None:
    await manager.put(a_task("t1", "n1", TaskState.ASSIGNED))
    talk = Talk()
    batch = agent_pb2.StatusBatch(sequence=1)
    batch.reports.add(task_id="t1").status.state = 7
    talk.queue.put_nowait(agent_pb2.AgentMessage(statuses=batch))
    kinds = [message.WhichOneof("body") async for message in manager.stub().Session(talk.words())]
    assert "ack" not in kinds
    again = aiter(manager.stub().Session(Talk().words()))
    assert (await anext(again)).session.node.id == "n1"


async def test_an_image_is_located_by_what_nodes_said(manager: Manager) -> None:
    talk, stub = Talk(), manager.stub()
    inventory = agent_pb2.ImageInventory()
    inventory.images.add(ref="nginx:1", digest="sha256:1")
    talk.queue.put_nowait(agent_pb2.AgentMessage(images=inventory))
    batch = agent_pb2.AgentMessage(statuses=agent_pb2.StatusBatch(sequence=1))
    talk.queue.put_nowait(batch)
    messages = aiter(stub.Session(talk.words()))
    while (await anext(messages)).WhichOneof("body") != "ack":
        pass
    answer = await stub.LocateImage(agent_pb2.LocateImageRequest(ref="nginx:1"))
    assert (answer.digest, [one.node_id for one in answer.holders]) == ("sha256:1", ["n1"])
    assert (await stub.LocateImage(agent_pb2.LocateImageRequest(ref="nosuch"))).digest == ""
    with pytest.raises(grpc.RpcError) as caught:
        await stub.LocateImage(agent_pb2.LocateImageRequest(ref="No:Such:Ref"))
    assert isinstance(errors.from_rpc(caught.value), Invalid)
