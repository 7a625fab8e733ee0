"""The Control service: requests become use cases, rows become answers, errors become statuses."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from swarmd.api.control import ControlServer, UseCases
from swarmd.control.authority import Authorities
from swarmd.control.cluster import Clusters, Founding, first_rows
from swarmd.control.logins import Logins
from swarmd.control.logs import Line, LogOptions, Logs
from swarmd.control.nodes import Group, Nodes
from swarmd.control.preload import Preloading
from swarmd.control.secrets import Secrets
from swarmd.control.snapshots import Snapshots, unpack
from swarmd.control.tokens import Tokens
from swarmd.model.errors import Conflict, Invalid, NotFound, OutOfSequence, Refused, SwarmError
from swarmd.model.objects import Node, NodeDescription
from swarmd.model.replace import replace
from swarmd.model.spec import PortSpec
from swarmd.rpc import codec, errors
from swarmd.rpc.v1 import control_pb2 as pb
from swarmd.rpc.v1 import control_pb2_grpc
from tests.unit.test_control_bed import Bed, a_spec, a_task, ingress


class Leader(Bed):
    """A founded swarm behind a real gRPC server on loopback."""

    def __init__(self) -> None:
        super().__init__()
        self.group = Group(["m1"], ["m1"], "m1")
        self.confirmations = 0
        self.cases = UseCases(
            store=self.store,
            clusters=Clusters(self.store, self.new_id),
            tokens=Tokens(self.store, self.clock, self.new_id),
            authorities=Authorities(self.store, self.clock),
            nodes=Nodes(self.store, self.clock, lambda: self.group),
            services=self.services,
            logins=Logins(self.store),
            logs=Logs(self.store, self.read, lambda name, error: None),
            snapshots=Snapshots(self.store, self.confirmed, lambda: 3, self.clock),
            registry=self.registry,
            preloading=Preloading(self.store, preloads=lambda: None, pin=lambda ref: ""),
            trust=self.trust,
            networks=self.networks,
            secrets=Secrets(self.store, self.new_id),
        )

    async def confirmed(self) -> None:
        self.confirmations += 1

    async def read(self, node: Node, task_id: str, options: LogOptions) -> AsyncIterator[Line]:
        yield Line(at=options.since, stderr=True, data=f"{task_id} {options.tail}".encode())

    async def start(self) -> None:
        founding = Founding(
            cluster_id="c1", node_id="m1", address="10.0.0.1", root_ca=b"root", ca_key=b"k", gossip_key=b"g"
        )
        await self.store.commit(first_rows(founding, self.new_id))
        await self.put(Node(id="w1", description=NodeDescription(hostname="worker")))
        self.server = grpc.aio.server()
        control_pb2_grpc.add_ControlServicer_to_server(ControlServer(lambda: self.cases), self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.ask = control_pb2_grpc.ControlStub(self.channel)

    async def create(self, name: str = "web", *ports: PortSpec) -> str:
        request = pb.CreateServiceRequest()
        codec.fill(request.spec, a_spec(name, ports=ports))
        return str((await self.ask.CreateService(request)).id)


@pytest.fixture
async def leader() -> AsyncIterator[Leader]:
    leader = Leader()
    await leader.start()
    yield leader
    await leader.channel.close(None)
    await leader.server.stop(None)


def told(caught: pytest.ExceptionInfo[grpc.RpcError]) -> SwarmError:
    return errors.from_rpc(caught.value)


async def test_the_swarm_with_its_tokens(leader: Leader) -> None:
    cluster = await leader.ask.GetCluster(pb.GetClusterRequest())
    assert (cluster.id, cluster.can_lose_managers, cluster.spec.task_history) == ("c1", 0, 5)
    fresh = await leader.ask.RotateToken(pb.RotateTokenRequest(role="worker"))
    assert fresh.token != cluster.worker_token
    again = await leader.ask.GetCluster(pb.GetClusterRequest())
    assert (again.worker_token, again.manager_token) == (fresh.token, cluster.manager_token)


async def test_settings_are_replaced_as_they_were_read(leader: Leader) -> None:
    read = await leader.ask.GetCluster(pb.GetClusterRequest())
    read.spec.heartbeat, read.spec.task_history = 2.0, 0
    request = pb.UpdateClusterRequest(version=read.version, spec=read.spec)
    await leader.ask.UpdateCluster(request)
    again = await leader.ask.GetCluster(pb.GetClusterRequest())
    assert again.spec == read.spec
    with pytest.raises(grpc.RpcError) as caught:
        await leader.ask.UpdateCluster(request)
    assert (type(told(caught)), str(told(caught))) == (OutOfSequence, "update out of sequence")
    again.spec.heartbeat = 0.0
    with pytest.raises(grpc.RpcError, match="dispatcher-heartbeat"):
        await leader.ask.UpdateCluster(pb.UpdateClusterRequest(version=again.version, spec=again.spec))


async def test_autolock_has_a_key_as_long_as_it_is_on(leader: Leader) -> None:
    async def key() -> str:
        return str((await leader.ask.GetUnlockKey(pb.GetUnlockKeyRequest())).unlock_key)

    async def lock(on: bool) -> None:
        read = await leader.ask.GetCluster(pb.GetClusterRequest())
        assert b"SWMKEY" not in read.SerializeToString(), "the key is told to those who ask for it"
        read.spec.autolock = on
        await leader.ask.UpdateCluster(pb.UpdateClusterRequest(version=read.version, spec=read.spec))

    assert await key() == ""
    with pytest.raises(grpc.RpcError) as caught:
        await leader.ask.RotateUnlockKey(pb.RotateUnlockKeyRequest())
    assert isinstance(told(caught), Refused)
    await lock(True)
    first = await key()
    assert first.startswith("SWMKEY-1-")
    await lock(True)
    assert await key() == first, "nothing changed"
    second = (await leader.ask.RotateUnlockKey(pb.RotateUnlockKeyRequest())).unlock_key
    assert (await key(), second != first) == (second, True)
    await lock(False)
    assert await key() == ""
    assert leader.cases.clusters.get().unlock_key == b""


async def test_nodes_are_listed_changed_and_removed(leader: Leader) -> None:
    listed = await leader.ask.ListNodes(pb.ListNodesRequest())
    assert {view.node.id: view.manager_status for view in listed.nodes} == {"m1": "Leader", "w1": ""}
    change = pb.UpdateNodeRequest(ref="worker", availability="drain", label_add={"zone": "a"})
    assert await leader.ask.UpdateNode(change) == pb.UpdateNodeResponse(id="w1", changed=True)
    assert await leader.ask.UpdateNode(change) == pb.UpdateNodeResponse(id="w1", changed=False)
    view = (await leader.ask.GetNode(pb.GetNodeRequest(ref="w1"))).node
    assert (view.node.spec.availability, view.node.spec.role, view.root_ca) == ("drain", "worker", b"root")
    await leader.ask.RemoveNode(pb.RemoveNodeRequest(ref="w1"))
    with pytest.raises(grpc.RpcError) as caught:
        await leader.ask.GetNode(pb.GetNodeRequest(ref="w1"))
    assert (type(told(caught)), str(told(caught))) == (NotFound, "node w1 not found")


async def test_a_service_from_creation_to_removal(leader: Leader) -> None:
    service_id = await leader.create("web", ingress(80))
    await leader.put(a_task("t1", "w1", service_id=service_id))
    view = (await leader.ask.GetService(pb.GetServiceRequest(ref="web"))).service
    assert (view.service.id, view.running, view.desired, view.service.ports[0].published) == (
        service_id,
        1,
        1,
        80,
    )
    update = pb.UpdateServiceRequest(ref="web", version=view.service.version)
    codec.fill(update.spec, replace(a_spec("web"), replicas=4))
    await leader.ask.UpdateService(update)
    with pytest.raises(grpc.RpcError) as caught:
        await leader.ask.UpdateService(update)
    assert (type(told(caught)), str(told(caught))) == (OutOfSequence, "update out of sequence")
    await leader.ask.RollbackService(pb.RollbackServiceRequest(ref="web"))
    assert leader.service("web").spec.replicas == 1
    await leader.create("db")
    listed = await leader.ask.ListServices(pb.ListServicesRequest())
    assert [view.service.spec.name for view in listed.services] == ["db", "web"]
    assert (await leader.ask.RemoveService(pb.RemoveServiceRequest(ref="web"))).id == service_id


async def test_refusals_keep_their_kind(leader: Leader) -> None:
    await leader.create("web", ingress(80))
    for name, ports, kind in (
        ("web", (), Conflict),
        ("other", (ingress(80),), Invalid),
        ("no!", (), Invalid),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            await leader.create(name, *ports)
        assert type(told(caught)) is kind


async def test_a_warning_comes_with_the_answer(leader: Leader) -> None:
    request = pb.CreateServiceRequest(resolve_image=True)
    codec.fill(request.spec, a_spec())
    (warning,) = (await leader.ask.CreateService(request)).warnings
    assert "nginx:1 could not be accessed" in warning


async def test_tasks_are_shown_with_image_node_and_host_ports(leader: Leader) -> None:
    host = PortSpec(target=53, published=53, mode="host")
    service_id = await leader.create("web", ingress(80), host)
    await leader.put(
        a_task("t1", "w1", service_id=service_id), a_task("t2", "", service_id=service_id, spec_version=0)
    )
    listed = await leader.ask.ListTasks(pb.ListTasksRequest(service_id="web"))
    views = {view.task.id: view for view in listed.tasks}
    first = views["t1"]
    assert (first.image, first.node_hostname, first.up_to_date) == ("nginx:1", "worker", True)
    assert [(port.published, port.mode) for port in first.ports] == [(53, "host")]
    assert (views["t2"].image, views["t2"].up_to_date) == ("", False)
    for request in (pb.ListTasksRequest(node_id="worker"), pb.ListTasksRequest(task_ref="t1")):
        assert [view.task.id for view in (await leader.ask.ListTasks(request)).tasks] == ["t1"]
    assert len((await leader.ask.ListTasks(pb.ListTasksRequest())).tasks) == 2


async def test_logs_are_streamed_with_their_origin(leader: Leader) -> None:
    service_id = await leader.create()
    await leader.put(a_task("t1", "w1", service_id=service_id), a_task("t2", "gone", service_id=service_id))
    request = pb.LogsRequest(ref="web", tail=-1, since=5.0)
    items = {item.task_id: item async for item in leader.ask.Logs(request)}
    first = items["t1"]
    assert (first.line, first.at, first.stderr) == (b"t1 -1", 5.0, True)
    assert (first.task_name, first.node_hostname, first.warning) == ("web.1", "worker", "")
    assert "node gone is no longer part of the swarm" in items["t2"].warning
    with pytest.raises(grpc.RpcError) as caught:
        await anext(aiter(leader.ask.Logs(pb.LogsRequest(ref="nosuch"))))
    assert str(told(caught)) == "no such task or service: nosuch"


async def test_a_snapshot_is_of_everything_that_was_acknowledged(leader: Leader) -> None:
    await leader.create("web")
    pieces = [piece.data async for piece in leader.ask.SaveSnapshot(pb.SaveSnapshotRequest())]
    contents = unpack(b"".join(pieces), "f")
    assert leader.confirmations == 1, "the leader asked whether it still leads"
    assert contents.header.index == leader.store.index
    assert (contents.header.epoch, contents.header.cluster_id) == (3, "c1")
    assert contents.header.counts["service"] == 1
    assert sorted(row.id for row in contents.rows) == sorted(row.id for row in leader.store.rows())


async def test_a_large_snapshot_comes_in_pieces(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmd.rpc.snapshot_file.PIECE", 100)
    pieces = [piece.data async for piece in leader.ask.SaveSnapshot(pb.SaveSnapshotRequest())]
    assert len(pieces) > 3
    assert unpack(b"".join(pieces), "f").header.cluster_id == "c1"
