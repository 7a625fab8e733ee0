"""Finding faults in the network: NetworkDoctor for a manager's users, NodeNetwork of each node for those."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from swarmd.model.errors import SwarmError
from swarmd.rpc import errors
from swarmd.rpc.v1 import netdiag_pb2 as pb
from swarmd.rpc.v1 import netdiag_pb2_grpc

# gRPC method names are the protocol's.
# ruff: noqa: N802


class Doctor(Protocol):
    """What a manager finds out; every method raises SwarmError."""

    async def examine(self, network: str) -> pb.ExamineNetworkResponse: ...
    async def trace(self, source: str, destination: str) -> pb.TracePacketResponse: ...


class NetworkDoctorServer(netdiag_pb2_grpc.NetworkDoctorServicer):
    """``doctor``: of the manager that this node is now; raises SwarmError when it is none."""

    def __init__(self, doctor: Callable[[], Doctor]) -> None:
        self._doctor = doctor

    async def ExamineNetwork(
        self, request: pb.ExamineNetworkRequest, context: Any
    ) -> pb.ExamineNetworkResponse:
        try:
            return await self._doctor().examine(request.network)
        except SwarmError as error:
            await errors.abort(context, error)

    async def TracePacket(self, request: pb.TracePacketRequest, context: Any) -> pb.TracePacketResponse:
        try:
            return await self._doctor().trace(request.source, request.destination)
        except SwarmError as error:
            await errors.abort(context, error)


class NodeNetworkServer(netdiag_pb2_grpc.NodeNetworkServicer):
    """``examine``: has this node look at itself and try ways to others."""

    def __init__(self, examine: Callable[[pb.ExamineNodeRequest], Awaitable[pb.ExamineNodeResponse]]) -> None:
        self._examine = examine

    async def ExamineNode(self, request: pb.ExamineNodeRequest, context: Any) -> pb.ExamineNodeResponse:
        try:
            return await self._examine(request)
        except SwarmError as error:
            await errors.abort(context, error)


def serve(server: Any, doctor: Callable[[], Doctor]) -> None:
    """The service for users of the socket."""
    netdiag_pb2_grpc.add_NetworkDoctorServicer_to_server(NetworkDoctorServer(doctor), server)
