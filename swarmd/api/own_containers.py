"""The calls of the Containers service on this node's own containers, and those that only its socket has."""

from __future__ import annotations

from typing import Any

from swarmd.kit.clock import Clock
from swarmd.node.containers.local import LocalContainers
from swarmd.node.containers.server import ContainerServer
from swarmd.node.containers.views import view
from swarmd.rpc.v1 import containers_pb2 as pb

# gRPC method names are the protocol's.
# ruff: noqa: N802


class OwnContainers(ContainerServer):
    """For users of the daemon's socket."""

    def __init__(self, containers: LocalContainers, clock: Clock) -> None:
        super().__init__(containers, clock, remote=False)

    async def ListContainers(
        self, request: pb.ListContainersRequest, context: Any
    ) -> pb.ListContainersResponse:
        return pb.ListContainersResponse(
            containers=[view(self._here, state) for state in self._here.runtime.list()]
        )
