"""One manager as a client sees it: the gRPC API over its socket, and what a failure means for the outcome."""

from __future__ import annotations

from typing import Any

import grpc

from swarmd.model.spec import ContainerSpec, ServiceSpec, TaskTemplate
from swarmd.rpc.codec import to_proto
from swarmd.rpc.v1 import control_pb2, node_pb2, types_pb2
from swarmd.rpc.v1.control_pb2_grpc import ControlStub
from swarmd.rpc.v1.node_pb2_grpc import NodeApiStub
from tests.nemesis.history import Outcome

SECONDS = 4.0
"""A client waits this long for an answer, then the outcome is unknown to it."""

VALUE = "value"
_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 64 << 20),
]
_REFUSALS = ("out_of_sequence", "invalid", "refused", "conflict", "not_found", "denied", "not_manager")
_NEVER_SENT = "failed to connect to all addresses"


class CallFailed(Exception):
    """A call without the wanted answer: ``outcome`` says whether it may have taken effect."""

    def __init__(self, outcome: Outcome, said: str) -> None:
        super().__init__(said)
        self.outcome = outcome


def failure(error: grpc.RpcError) -> CallFailed:
    """Only what the manager refused, and what never reached it, has certainly not happened."""
    call: Any = error
    kind = dict(call.trailing_metadata() or ()).get("swarmd-kind")
    details = str(call.details() or call.code())
    certain = kind in _REFUSALS or (kind is None and details.startswith(_NEVER_SENT))
    return CallFailed("fail" if certain else "unknown", f"{kind or call.code().name}: {details[:120]}")


class Manager:
    """Calls raise :class:`CallFailed`."""

    def __init__(self, node: str, socket: str) -> None:
        self.node = node
        self._channel = grpc.aio.insecure_channel(f"unix://{socket}", options=_OPTIONS)
        self._control = ControlStub(self._channel)
        self._api = NodeApiStub(self._channel)

    async def close(self) -> None:
        """Hang up."""
        await self._channel.close()

    async def _call(self, method: Any, request: Any, *, stale: bool = False, seconds: float = SECONDS) -> Any:
        try:
            metadata = (("swarmd-read", "stale"),) if stale else ()
            return await method(request, timeout=seconds, metadata=metadata)
        except grpc.RpcError as error:
            raise failure(error) from error

    async def leads(self) -> bool:
        """Whether it says so; a manager that does not answer within a second does not lead."""
        try:
            return bool((await self._api.Info(node_pb2.InfoRequest(), timeout=1)).is_leader)
        except grpc.RpcError:
            return False

    async def statuses(self, seconds: float = SECONDS) -> dict[str, str]:
        """Host name → status as a manager, of those that are meant to be managers or are."""
        answer = await self._call(self._control.ListNodes, control_pb2.ListNodesRequest(), seconds=seconds)
        return {
            view.node.description.hostname: str(view.manager_status) if view.node.role == "manager" else "?"
            for view in answer.nodes
        }

    # -- registers -----------------------------------------------------------------------------------

    async def create(self, name: str) -> None:
        """A service without tasks."""
        template = TaskTemplate(container=ContainerSpec(image="nothing:here"))
        spec = to_proto(ServiceSpec(name=name, mode="replicated", replicas=0, template=template))
        await self._call(self._control.CreateService, control_pb2.CreateServiceRequest(spec=spec))

    async def remove(self, name: str) -> None:
        """Remove a service."""
        await self._call(self._control.RemoveService, control_pb2.RemoveServiceRequest(ref=name))

    async def services(self, *, stale: bool = False) -> list[types_pb2.Service]:
        """All there are, as they are stored."""
        answer = await self._call(self._control.ListServices, control_pb2.ListServicesRequest(), stale=stale)
        return [view.service for view in answer.services]

    async def service(self, name: str) -> types_pb2.Service:
        """One of them."""
        answer = await self._call(self._control.GetService, control_pb2.GetServiceRequest(ref=name))
        found: types_pb2.Service = answer.service.service
        return found

    async def swap(self, found: types_pb2.Service, value: str) -> None:
        """Write the service's label if the service is still the one that was found."""
        spec = types_pb2.ServiceSpec()
        spec.CopyFrom(found.spec)
        spec.labels[VALUE] = value
        request = control_pb2.UpdateServiceRequest(ref=found.id, version=found.version, spec=spec)
        await self._call(self._control.UpdateService, request)

    async def label(self, node: str, key: str, value: str, seconds: float = SECONDS) -> None:
        """Write a label of a node, whatever it was."""
        request = control_pb2.UpdateNodeRequest(ref=node, label_add={key: value})
        await self._call(self._control.UpdateNode, request, seconds=seconds)

    async def labels(self, node: str) -> dict[str, str]:
        """The labels of a node."""
        answer = await self._call(self._control.GetNode, control_pb2.GetNodeRequest(ref=node))
        return dict(answer.node.node.spec.labels)

    async def change(self, node: str, *, role: str = "", availability: str = "") -> None:
        """``node promote``, ``demote`` and ``update --availability``."""
        request = control_pb2.UpdateNodeRequest(ref=node)
        if role:
            request.role = role
        if availability:
            request.availability = availability
        await self._call(self._control.UpdateNode, request)
