"""The Control service: requests to use cases and back.  It owns no rule."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from swarmd.api import events, tokens
from swarmd.api.authority_view import authority_view
from swarmd.api.control_images import ImageCalls
from swarmd.api.logins import LoginCalls
from swarmd.api.views import log_line, service_view, task_view, tasks_of
from swarmd.control import lookup
from swarmd.control.authority import Authorities, NewRoot
from swarmd.control.cluster import Clusters
from swarmd.control.logins import Logins
from swarmd.control.logs import LogOptions, Logs
from swarmd.control.networks import Networks
from swarmd.control.nodes import NodeChange, Nodes
from swarmd.control.preload import Preloading
from swarmd.control.registry import Registry
from swarmd.control.secrets import Secrets
from swarmd.control.services import Services
from swarmd.control.snapshots import Snapshots
from swarmd.control.tokens import Tokens
from swarmd.control.trust import Trusts
from swarmd.model.errors import SwarmError
from swarmd.model.objects import Node, Service
from swarmd.model.spec import ClusterSpec, ServiceSpec
from swarmd.rpc import codec, errors, snapshot_file
from swarmd.rpc.v1 import control_pb2 as pb
from swarmd.rpc.v1 import control_pb2_grpc
from swarmd.security import issuing
from swarmd.store.store import Store

T = TypeVar("T")

# gRPC method names are the protocol's.
# ruff: noqa: N802


class UseCases(msgspec.Struct, frozen=True):
    """Everything a manager can be asked to do."""

    store: Store
    clusters: Clusters
    tokens: Tokens
    authorities: Authorities
    nodes: Nodes
    services: Services
    logins: Logins
    logs: Logs
    snapshots: Snapshots
    registry: Registry
    preloading: Preloading
    trust: Trusts
    networks: Networks
    secrets: Secrets


class ControlServer(ImageCalls, LoginCalls, control_pb2_grpc.ControlServicer):
    """What a leader answers; followers and workers never get here (``api.forward`` sees to it).

    ``cases``: those of the manager this node is now; a node may become one, or cease to be.
    """

    def __init__(self, cases: Callable[[], UseCases]) -> None:
        super().__init__(cases)
        self._login_cases = cases
        self._cases = cases

    async def GetCluster(self, request: pb.GetClusterRequest, context: Any) -> pb.GetClusterResponse:
        async def answer() -> pb.GetClusterResponse:
            cluster = self._cases().clusters.get()
            worker, manager = self._cases().clusters.tokens()
            response = pb.GetClusterResponse(
                id=cluster.id,
                created_at=cluster.created_at,
                root_ca=cluster.root_ca,
                worker_token=worker,
                manager_token=manager,
                can_lose_managers=self._cases().nodes.can_lose_managers(),
                version=cluster.version,
                warnings=self._cases().nodes.warnings(),
            )
            codec.fill(response.spec, cluster.spec)
            return response

        return await _answer(context, answer)

    async def UpdateCluster(self, request: pb.UpdateClusterRequest, context: Any) -> pb.UpdateClusterResponse:
        async def answer() -> pb.UpdateClusterResponse:
            spec = codec.from_proto(ClusterSpec, request.spec)
            await self._cases().clusters.update(request.version, spec)
            return pb.UpdateClusterResponse()

        return await _answer(context, answer)

    async def GetUnlockKey(self, request: pb.GetUnlockKeyRequest, context: Any) -> pb.GetUnlockKeyResponse:
        async def answer() -> pb.GetUnlockKeyResponse:
            return pb.GetUnlockKeyResponse(unlock_key=self._cases().clusters.unlock_key())

        return await _answer(context, answer)

    async def RotateUnlockKey(
        self, request: pb.RotateUnlockKeyRequest, context: Any
    ) -> pb.RotateUnlockKeyResponse:
        async def answer() -> pb.RotateUnlockKeyResponse:
            return pb.RotateUnlockKeyResponse(unlock_key=await self._cases().clusters.rotate_unlock_key())

        return await _answer(context, answer)

    async def RotateToken(self, request: pb.RotateTokenRequest, context: Any) -> pb.RotateTokenResponse:
        async def answer() -> pb.RotateTokenResponse:
            return pb.RotateTokenResponse(token=await self._cases().clusters.rotate_token(request.role))

        return await _answer(context, answer)

    # -- the authority ---------------------------------------------------------------------------

    async def GetAuthority(self, request: pb.GetAuthorityRequest, context: Any) -> pb.GetAuthorityResponse:
        async def answer() -> pb.GetAuthorityResponse:
            cases = self._cases()
            return authority_view(cases.clusters.get(), cases.authorities.progress())

        return await _answer(context, answer)

    async def RotateAuthority(
        self, request: pb.RotateAuthorityRequest, context: Any
    ) -> pb.RotateAuthorityResponse:
        async def answer() -> pb.RotateAuthorityResponse:
            wanted = NewRoot(
                certificate=request.ca_cert,
                key=request.ca_key,
                certificate_expiry=request.certificate_expiry,
            )
            return pb.RotateAuthorityResponse(digest=await self._cases().authorities.rotate(wanted))

        return await _answer(context, answer)

    # -- join tokens -----------------------------------------------------------------------------

    async def CreateToken(self, request: pb.CreateTokenRequest, context: Any) -> pb.CreateTokenResponse:
        return await _answer(context, lambda: tokens.create(self._cases().tokens, request))

    async def ListTokens(self, request: pb.ListTokensRequest, context: Any) -> pb.ListTokensResponse:
        async def answer() -> pb.ListTokensResponse:
            cases = self._cases().tokens
            return pb.ListTokensResponse(tokens=[tokens.view(cases, row) for row in cases.all()])

        return await _answer(context, answer)

    async def GetToken(self, request: pb.GetTokenRequest, context: Any) -> pb.GetTokenResponse:
        async def answer() -> pb.GetTokenResponse:
            cases = self._cases().tokens
            return pb.GetTokenResponse(token=tokens.view(cases, cases.get(request.ref)))

        return await _answer(context, answer)

    async def RemoveToken(self, request: pb.RemoveTokenRequest, context: Any) -> pb.RemoveTokenResponse:
        async def answer() -> pb.RemoveTokenResponse:
            return pb.RemoveTokenResponse(id=await self._cases().tokens.remove(request.ref))

        return await _answer(context, answer)

    # -- nodes -----------------------------------------------------------------------------------

    async def ListNodes(self, request: pb.ListNodesRequest, context: Any) -> pb.ListNodesResponse:
        async def answer() -> pb.ListNodesResponse:
            return pb.ListNodesResponse(
                nodes=[self._node_view(node) for node in self._cases().store.all(Node)],
                warnings=self._cases().nodes.warnings(),
            )

        return await _answer(context, answer)

    async def GetNode(self, request: pb.GetNodeRequest, context: Any) -> pb.GetNodeResponse:
        async def answer() -> pb.GetNodeResponse:
            return pb.GetNodeResponse(node=self._node_view(lookup.node(self._cases().store, request.ref)))

        return await _answer(context, answer)

    async def UpdateNode(self, request: pb.UpdateNodeRequest, context: Any) -> pb.UpdateNodeResponse:
        async def answer() -> pb.UpdateNodeResponse:
            change = NodeChange(
                role=request.role if request.HasField("role") else None,
                availability=request.availability if request.HasField("availability") else None,
                label_add=dict(request.label_add),
                label_rm=tuple(request.label_rm),
            )
            node_id, changed = await self._cases().nodes.update(request.ref, change)
            warnings = self._cases().nodes.warnings_of_role(change) if changed else []
            return pb.UpdateNodeResponse(id=node_id, changed=changed, warnings=warnings)

        return await _answer(context, answer)

    async def RemoveNode(self, request: pb.RemoveNodeRequest, context: Any) -> pb.RemoveNodeResponse:
        async def answer() -> pb.RemoveNodeResponse:
            node_id = await self._cases().nodes.remove(request.ref, force=request.force)
            return pb.RemoveNodeResponse(id=node_id)

        return await _answer(context, answer)

    # -- services --------------------------------------------------------------------------------

    async def CreateService(self, request: pb.CreateServiceRequest, context: Any) -> pb.CreateServiceResponse:
        async def answer() -> pb.CreateServiceResponse:
            spec = codec.from_proto(ServiceSpec, request.spec)
            service, warnings = await self._cases().services.create(spec, resolve_image=request.resolve_image)
            return pb.CreateServiceResponse(id=service.id, warnings=warnings)

        return await _answer(context, answer)

    async def ListServices(self, request: pb.ListServicesRequest, context: Any) -> pb.ListServicesResponse:
        async def answer() -> pb.ListServicesResponse:
            rows = sorted(self._cases().store.all(Service), key=lambda row: row.spec.name)
            return pb.ListServicesResponse(
                services=[service_view(row, self._cases().services.counts(row)) for row in rows]
            )

        return await _answer(context, answer)

    async def GetService(self, request: pb.GetServiceRequest, context: Any) -> pb.GetServiceResponse:
        async def answer() -> pb.GetServiceResponse:
            row = lookup.service(self._cases().store, request.ref)
            return pb.GetServiceResponse(service=service_view(row, self._cases().services.counts(row)))

        return await _answer(context, answer)

    async def UpdateService(self, request: pb.UpdateServiceRequest, context: Any) -> pb.UpdateServiceResponse:
        async def answer() -> pb.UpdateServiceResponse:
            spec = codec.from_proto(ServiceSpec, request.spec)
            warnings = await self._cases().services.update(
                request.ref, request.version, spec, resolve_image=request.resolve_image
            )
            return pb.UpdateServiceResponse(warnings=warnings)

        return await _answer(context, answer)

    async def RollbackService(
        self, request: pb.RollbackServiceRequest, context: Any
    ) -> pb.RollbackServiceResponse:
        async def answer() -> pb.RollbackServiceResponse:
            await self._cases().services.rollback(request.ref)
            return pb.RollbackServiceResponse()

        return await _answer(context, answer)

    async def RemoveService(self, request: pb.RemoveServiceRequest, context: Any) -> pb.RemoveServiceResponse:
        async def answer() -> pb.RemoveServiceResponse:
            return pb.RemoveServiceResponse(id=await self._cases().services.remove(request.ref))

        return await _answer(context, answer)

    # -- tasks -----------------------------------------------------------------------------------

    async def ListTasks(self, request: pb.ListTasksRequest, context: Any) -> pb.ListTasksResponse:
        async def answer() -> pb.ListTasksResponse:
            store = self._cases().store
            return pb.ListTasksResponse(tasks=[task_view(store, task) for task in tasks_of(store, request)])

        return await _answer(context, answer)

    async def Logs(self, request: pb.LogsRequest, context: Any) -> AsyncIterator[pb.LogsResponse]:
        options = LogOptions(follow=request.follow, tail=request.tail, since=request.since)
        try:
            async with contextlib.aclosing(self._cases().logs.stream(request.ref, options)) as items:
                async for item in items:
                    yield log_line(item)
        except SwarmError as error:
            await errors.abort(context, error)

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.WatchResponse]:
        async for response in events.watch(self._cases().store, request):
            yield response

    async def SaveSnapshot(self, request: Any, context: Any) -> AsyncIterator[pb.SaveSnapshotResponse]:
        for piece in snapshot_file.pieces(await self._cases().snapshots.take()):
            yield pb.SaveSnapshotResponse(data=piece)

    def _node_view(self, node: Node) -> pb.NodeView:
        view = pb.NodeView(
            manager_status=self._cases().nodes.manager_status(node),
            root_ca=issuing.trusted(self._cases().clusters.get()),
            tls_status=self._cases().authorities.tls_status(node),
        )
        codec.fill(view.node, node)
        return view


async def _answer(context: Any, answer: Callable[[], Awaitable[T]]) -> T:
    try:
        return await answer()
    except SwarmError as error:
        await errors.abort(context, error)
