"""The Attachments service of a leading manager: single containers of nodes in networks of the swarm."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from swarmd.manager.allocator.attachments import Attachments
from swarmd.model.containers import SingleContainer
from swarmd.model.errors import SwarmError
from swarmd.model.network import ContainerNetwork, NetworkAttachment
from swarmd.rpc import codec, errors
from swarmd.rpc.v1 import agent_pb2 as pb
from swarmd.rpc.v1 import agent_pb2_grpc
from swarmd.security import peer

T = TypeVar("T")

# gRPC method names are the protocol's.
# ruff: noqa: N802


class AttachmentsServer(agent_pb2_grpc.AttachmentsServicer):
    """``leading``: the use cases once this manager leads and is current; raises Unavailable otherwise."""

    def __init__(self, cluster_id: Callable[[], str], leading: Callable[[], Awaitable[Attachments]]) -> None:
        self._cluster_id = cluster_id
        self._leading = leading

    async def AttachContainer(
        self, request: pb.AttachContainerRequest, context: Any
    ) -> pb.AttachContainerResponse:
        async def answer(cases: Attachments, caller: str) -> pb.AttachContainerResponse:
            asked = SingleContainer(id=request.container_id, name=request.name, node_id=caller, up=request.up)
            wanted = [codec.from_proto(NetworkAttachment, one) for one in request.networks]
            row = await cases.attach(caller, asked, wanted)
            response = pb.AttachContainerResponse()
            for one in row.networks:
                codec.fill(response.networks.add(), one)
                response.names.append(cases.network(one.network_id).name)
            return response

        return await self._answer(context, answer)

    async def ReportContainers(
        self, request: pb.ReportContainersRequest, context: Any
    ) -> pb.ReportContainersResponse:
        async def answer(cases: Attachments, caller: str) -> pb.ReportContainersResponse:
            reported = [
                SingleContainer(
                    id=one.container_id,
                    name=one.name,
                    node_id=caller,
                    up=one.up,
                    networks=tuple(codec.from_proto(ContainerNetwork, each) for each in one.networks),
                )
                for one in request.containers
            ]
            stale, released = await cases.report(caller, reported)
            return pb.ReportContainersResponse(stale=stale, released=released)

        return await self._answer(context, answer)

    async def _answer(self, context: Any, answer: Callable[[Attachments, str], Awaitable[T]]) -> T:
        try:
            caller = peer.require(context, self._cluster_id()).node_id
            return await answer(await self._leading(), caller)
        except SwarmError as error:
            await errors.abort(context, error)
