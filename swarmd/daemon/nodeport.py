"""The node port: what a node answers to the others of its swarm, over mutual TLS."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import msgspec

from swarmd.api import networks
from swarmd.api.attachments import AttachmentsServer
from swarmd.api.audit import Auditing, Trail
from swarmd.api.control import ControlServer, UseCases
from swarmd.api.forward import Find, Forwarding
from swarmd.api.guard import Guard, node_port_check
from swarmd.api.netdiag import NodeNetworkServer
from swarmd.api.open_calls import OpenCalls, certificate_check
from swarmd.api.reading import Here
from swarmd.api.registry_names import RegistryNamesServer
from swarmd.api.secrets import add_secrets
from swarmd.api.trust import EvidenceServer, TrustServer
from swarmd.control.registry import Registry
from swarmd.image.store import ImageStore
from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery
from swarmd.manager.allocator.attachments import Attachments
from swarmd.manager.authority import Authority
from swarmd.manager.authority_server import AuthorityServer
from swarmd.manager.dispatcher.dispatcher import Dispatcher
from swarmd.manager.dispatcher.server import DispatcherServer
from swarmd.model.errors import Unavailable
from swarmd.node.containers.local import LocalContainers
from swarmd.node.containers.server import ContainerServer
from swarmd.node.peer import Keep, NodePeerServer, TaskLogs
from swarmd.rpc.channels import SERVER_OPTIONS
from swarmd.rpc.v1 import (
    agent_pb2,
    agent_pb2_grpc,
    containers_pb2_grpc,
    control_pb2_grpc,
    netdiag_pb2,
    netdiag_pb2_grpc,
    trust_pb2_grpc,
)
from swarmd.store.store import Store


class NodePortParts(msgspec.Struct, frozen=True):
    """What stands behind the port.  The callables answer for this moment: a node's role changes."""

    images: ImageStore
    logs: TaskLogs
    containers: LocalContainers
    clock: Clock
    trail: Trail
    nursery: Nursery
    cluster_id: Callable[[], str]
    store: Callable[[], Store | None]
    find_leader: Find
    here: Here
    use_cases: Callable[[], UseCases]
    dispatcher: Callable[[], Dispatcher | None]
    redirect: Callable[[], agent_pb2.Redirect]
    authority: Callable[[], Authority]
    keep: Keep
    registry: Callable[[], Awaitable[Registry]]
    trusted: Callable[[], bytes]
    examine: Callable[[netdiag_pb2.ExamineNodeRequest], Awaitable[netdiag_pb2.ExamineNodeResponse]]


def node_port_server(parts: NodePortParts) -> tuple[grpc.aio.Server, OpenCalls]:
    """A server with all services of the port, without a port yet, and what is under way on it."""
    may_call = node_port_check(parts.cluster_id, parts.store)
    is_good = certificate_check(parts.clock, parts.trusted)

    def check(method: str, context: Any) -> None:
        is_good(method, context)
        may_call(method, context)

    calls = OpenCalls(check)
    server = grpc.aio.server(
        interceptors=[
            calls.finishing,
            Guard(check, parts.trail.refused),
            calls,
            Forwarding(parts.find_leader, parts.here, parts.clock, parts.trail.passing_on),
            Auditing(parts.trail),
        ],
        options=SERVER_OPTIONS,
    )
    peer = NodePeerServer(parts.images, parts.logs, parts.cluster_id, clock=parts.clock, keep=parts.keep)
    agent_pb2_grpc.add_NodePeerServicer_to_server(peer, server)
    containers = ContainerServer(parts.containers, parts.clock, remote=True)
    containers_pb2_grpc.add_NodeContainersServicer_to_server(containers, server)
    trust_pb2_grpc.add_TrustEvidenceServicer_to_server(
        EvidenceServer(lambda: parts.use_cases().trust), server
    )
    _serve_users(server, parts.use_cases)
    dispatcher = DispatcherServer(
        cluster_id=parts.cluster_id,
        current=parts.dispatcher,
        redirect=parts.redirect,
        nursery=parts.nursery,
    )
    agent_pb2_grpc.add_DispatcherServicer_to_server(dispatcher, server)
    _serve_nodes(server, parts)
    netdiag_pb2_grpc.add_NodeNetworkServicer_to_server(NodeNetworkServer(parts.examine), server)
    agent_pb2_grpc.add_AuthorityServicer_to_server(AuthorityServer(parts.cluster_id, parts.authority), server)
    return server, calls


def _serve_nodes(server: grpc.aio.Server, parts: NodePortParts) -> None:
    """What nodes ask of the leader beside their sessions."""
    names = RegistryNamesServer(parts.cluster_id, parts.registry)
    agent_pb2_grpc.add_RegistryNamesServicer_to_server(names, server)
    attachments = AttachmentsServer(parts.cluster_id, lambda: _attachments(parts))
    agent_pb2_grpc.add_AttachmentsServicer_to_server(attachments, server)


async def _attachments(parts: NodePortParts) -> Attachments:
    """Raises Unavailable while this manager does not lead."""
    await parts.registry()  # which leads, and has applied all that was acknowledged
    store = parts.store()
    if store is None:
        raise Unavailable("this node is no manager any more")
    return Attachments(store)


def _serve_users(server: grpc.aio.Server, cases: Callable[[], UseCases]) -> None:
    """Calls that another manager passes on."""
    control_pb2_grpc.add_ControlServicer_to_server(ControlServer(cases), server)
    trust_pb2_grpc.add_TrustServicer_to_server(TrustServer(lambda: cases().trust), server)
    networks.serve(server, cases)
    add_secrets(server, lambda: cases().secrets)
