"""Who may call what on the node port, over real mutual TLS: every declared call, every kind of certificate.

The calls come from the descriptors, so a new one is tried by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import grpc
import pytest

from deploy.setup.api_reference import methods
from swarmd.api.audit import Trail
from swarmd.api.control import UseCases
from swarmd.api.forward import Leader
from swarmd.api.guard import INTERNAL
from swarmd.control.authority import Authorities
from swarmd.control.cluster import Clusters
from swarmd.control.logins import Logins
from swarmd.control.logs import Logs
from swarmd.control.nodes import Group, Nodes
from swarmd.control.preload import Preloading
from swarmd.control.registry import Registry
from swarmd.control.secrets import Secrets
from swarmd.control.snapshots import Snapshots
from swarmd.control.tokens import Tokens
from swarmd.daemon.nodeport import NodePortParts, node_port_server
from swarmd.kit.supervise import Nursery
from swarmd.manager.authority import Authority
from swarmd.manager.dispatcher.dispatcher import Dispatcher
from swarmd.model.errors import NotFound
from swarmd.model.objects import Cluster, Node, RemovedNode
from swarmd.model.spec import NodeSpec
from swarmd.model.states import Role
from swarmd.rpc import audience, errors
from swarmd.rpc.channels import OPTIONS
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc, netdiag_pb2
from swarmd.security import ca
from swarmd.security.identity import Credentials, grpc_channel_credentials, grpc_server_credentials
from swarmd.store.raft.single import SingleProposer
from tests.unit.container_fakes import local_containers
from tests.unit.test_control_bed import Bed

SECRET = "w" * 25
METHODS = methods()
ALLOWED = {
    audience.MEMBERS: {"worker", "manager", "demoted manager"},
    audience.MANAGERS: {"manager"},
    audience.USERS: {"manager"},
}
CALLERS = (
    "nobody", "other root", "other swarm", "worker", "manager",
    "removed worker", "removed manager", "demoted manager",
)  # fmt: skip


class Images:
    """Holds nothing; ``trouble`` is raised instead of saying so."""

    def __init__(self) -> None:
        self.trouble: Exception | None = None

    def manifest(self, digest: str) -> bytes:
        raise self.trouble or NotFound(f"No such image: {digest}")

    @property
    def content(self) -> Images:
        return self

    def path(self, digest: str) -> object:
        raise NotFound(f"No such blob: {digest}")


async def well(request: netdiag_pb2.ExamineNodeRequest) -> netdiag_pb2.ExamineNodeResponse:
    return netdiag_pb2.ExamineNodeResponse()


async def no_logs(task_id: str, *, follow: bool, tail: int, since: float) -> AsyncGenerator[Any, None]:
    lines: list[Any] = []
    for line in lines:
        yield line


class Port(Bed):
    """The node port of a leader, with every service that a daemon has behind it."""

    def __init__(self) -> None:
        super().__init__()
        now = time.time()
        self.root, self.root_key = ca.new_root(now)
        self.other_root, self.other_key = ca.new_root(now)
        self.nursery = Nursery(lambda name, error: None)
        self.blobs = Images()
        self.audit: list[bytes] = []
        self.channels: list[grpc.aio.Channel] = []

    async def start(self) -> None:
        await self.put(
            Cluster(
                id="c1", root_ca=self.root, ca_key=self.root_key, worker_token=SECRET, manager_token="m" * 25
            ),
            Node(id="worker", number=1),
            Node(id="manager", number=2, spec=NodeSpec(role=Role.MANAGER), role=Role.MANAGER),
            Node(id="demoted manager", number=3),
            RemovedNode(id="removed worker", until=2e9),
            RemovedNode(id="removed manager", until=2e9),
        )
        self.dispatcher = Dispatcher(self.store, self.clock, gossip=dict, managers=list)
        self.server, self.calls = node_port_server(self.parts())
        own = self.certified("manager", Role.MANAGER)
        self.port = self.server.add_secure_port("127.0.0.1:0", grpc_server_credentials(lambda: own))
        await self.server.start()

    def parts(self) -> NodePortParts:
        cases = UseCases(
            store=self.store,
            clusters=Clusters(self.store, self.new_id),
            tokens=Tokens(self.store, self.clock, self.new_id),
            authorities=Authorities(self.store, self.clock),
            nodes=Nodes(self.store, self.clock, lambda: Group(("manager",), {"manager"}, "manager")),
            services=self.services,
            logins=Logins(self.store),
            logs=Logs(self.store, cast("Any", no_logs), lambda name, error: None),
            snapshots=Snapshots(self.store, lambda: asyncio.sleep(0), lambda: 1, self.clock),
            registry=self.registry,
            preloading=Preloading(self.store, preloads=lambda: None, pin=lambda ref: ""),
            trust=self.trust,
            networks=self.networks,
            secrets=Secrets(self.store, self.new_id),
        )
        authority = Authority(self.store, self.clock, self.new_id)
        return NodePortParts(
            images=cast("Any", self.blobs),
            containers=local_containers(),
            logs=no_logs,
            clock=self.clock,
            trail=Trail(self.audit.append, self.clock, self.new_id, lambda: "manager"),
            nursery=self.nursery,
            cluster_id=lambda: "c1",
            store=lambda: self.store,
            find_leader=self.here,
            here=lambda: SingleProposer(self.state),
            use_cases=lambda: cases,
            dispatcher=lambda: self.dispatcher,
            redirect=agent_pb2.Redirect,
            authority=lambda: authority,
            trusted=lambda: self.root,
            keep=cast("Any", None),
            registry=self.leading_registry,
            examine=well,
        )

    async def leading_registry(self) -> Registry:
        return self.registry

    async def here(self) -> Leader:
        return Leader(None, asyncio.Event())

    async def stop(self) -> None:
        for channel in self.channels:
            await channel.close(None)
        await self.server.stop(None)
        await self.nursery.close()

    def certified(self, node_id: str, role: Role, cluster_id: str = "c1", *, own: bool = True) -> Credentials:
        key = ca.new_key()
        root, root_key = (self.root, self.root_key) if own else (self.other_root, self.other_key)
        certificate = ca.sign(
            ca.new_request(key),
            ca.Identity(node_id, role, cluster_id),
            root_pem=root,
            root_key_pem=root_key,
            now=time.time(),
            life=400 * 86400,
        )
        return Credentials(key=key, certificate=certificate, root=self.root)

    def credentials(self, caller: str) -> grpc.ChannelCredentials:
        if caller == "nobody":
            return grpc.ssl_channel_credentials(root_certificates=self.root)
        if caller == "other root":
            return grpc_channel_credentials(self.certified("manager", Role.MANAGER, own=False))
        if caller == "other swarm":
            return grpc_channel_credentials(self.certified("manager", Role.MANAGER, "c2"))
        role = Role.MANAGER if "manager" in caller else Role.WORKER
        return grpc_channel_credentials(self.certified(caller, role))

    def channel(self, caller: str) -> grpc.aio.Channel:
        options = (*OPTIONS, ("grpc.ssl_target_name_override", "manager"))
        channel = grpc.aio.secure_channel(f"127.0.0.1:{self.port}", self.credentials(caller), options=options)
        self.channels.append(channel)
        return channel


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    port = Port()
    await port.start()
    async with asyncio.timeout(60):
        yield port
    await port.stop()


def request_of(name: str) -> bytes:
    """A request that only its caller's rights can be Denied for: a join needs the right token."""
    if not name.endswith("Authority/Join"):
        return b""
    csr = ca.new_request(ca.new_key())
    return agent_pb2.ForwardedJoin(token_secret=SECRET, csr_pem=csr).SerializeToString()


async def outcome(channel: Any, name: str) -> str:
    """What a call comes to: "ok", the kind of the error, "not served" or "no connection".

    On the wire one request and its end are what every kind of method can begin with.
    """
    try:
        call = channel.unary_stream(name)(request_of(name), timeout=60)
        async for _ in call:
            call.cancel()  # some have no end of their own
            return "ok"
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return "not served"
        kind = dict(cast("Any", error.trailing_metadata() or ())).get(errors.KIND_KEY)
        return str(kind) if kind else "no connection"
    return "ok"


def expected(caller: str, name: str) -> str:
    who = audience.declared(METHODS[name])
    if caller in ("nobody", "other root"):
        return "no connection"
    if who == audience.LOCAL:
        return "not served"
    return "allowed" if caller in ALLOWED[who] else "denied"


@pytest.mark.parametrize("caller", CALLERS)
async def test_every_method_is_for_those_it_is_meant_for(port: Port, caller: str) -> None:
    channel = port.channel(caller)
    wrong = {}
    for name in METHODS:
        found = await outcome(channel, name)
        assert found != "internal", name
        verdict = found if found in ("denied", "not served", "no connection") else "allowed"
        if verdict != expected(caller, name):
            wrong[name] = f"{found}, expected: {expected(caller, name)}"
    assert wrong == {}


async def test_a_node_speaks_for_itself_and_for_no_other(port: Port) -> None:
    hello = agent_pb2.AgentMessage(hello=agent_pb2.AgentHello(address="127.0.0.1"))

    async def words() -> AsyncIterator[agent_pb2.AgentMessage]:
        yield hello
        await asyncio.Event().wait()

    session = agent_pb2_grpc.DispatcherStub(port.channel("worker")).Session(words())
    first = await session.read()
    assert isinstance(first, agent_pb2.ManagerMessage)
    assert first.session.node.id == "worker", "who is meant comes from the certificate alone"
    assert list(port.dispatcher.connected()) == ["worker"]
    csr = ca.new_request(ca.new_key())
    renewed = await agent_pb2_grpc.AuthorityStub(port.channel("worker")).Renew(
        agent_pb2.RenewRequest(csr_pem=csr)
    )
    assert ca.identity_of(renewed.certificate_pem) == ca.Identity("worker", Role.WORKER, "c1")
    session.cancel()


async def test_a_removed_node_is_told_how_to_go_on(port: Port) -> None:
    stub = agent_pb2_grpc.DispatcherStub(port.channel("removed worker"))
    with pytest.raises(grpc.aio.AioRpcError, match=r"run `swarmctl swarm leave --force` on it"):
        await stub.LocateImage(agent_pb2.LocateImageRequest(ref="x"))


async def test_what_nobody_foresaw_is_a_short_sentence_and_a_line_in_the_log(
    port: Port, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    port.blobs.trouble = KeyError("secret detail")
    stub = agent_pb2_grpc.NodePeerStub(port.channel("worker"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetManifest(agent_pb2.GetManifestRequest(digest="x"))
    told = errors.from_rpc(caught.value)
    assert (told.kind, str(told)) == ("internal", INTERNAL)
    logged = capsys.readouterr().out + caplog.text
    assert "call_failed" in logged
    assert "secret detail" in logged


@pytest.mark.parametrize("text", ["x" * 100_000, "図" * 50_000])
async def test_a_text_too_long_for_a_header_is_cut_and_keeps_its_kind(port: Port, text: str) -> None:
    port.blobs.trouble = NotFound(text)
    stub = agent_pb2_grpc.NodePeerStub(port.channel("worker"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetManifest(agent_pb2.GetManifestRequest(digest="x"))
    told = errors.from_rpc(caught.value)
    assert told.kind == "not_found"
    assert text.startswith(str(told).removesuffix(" …"))
    assert len(str(told)) > 500
