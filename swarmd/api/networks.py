"""The Networks service: requests to use cases and back.  It owns no rule."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from swarmd.api.control import UseCases
from swarmd.control.networks import Networks, Usage
from swarmd.image.core.selection import Selection
from swarmd.manager.allocator.attachments import Attachments
from swarmd.model.answering import answers
from swarmd.model.containers import SingleContainer
from swarmd.model.errors import SwarmError
from swarmd.model.network import NetworkSpec
from swarmd.model.objects import Network, Node, Service, Task
from swarmd.model.states import NodeState
from swarmd.rpc import codec, errors
from swarmd.rpc.v1 import networks_pb2 as pb
from swarmd.rpc.v1 import networks_pb2_grpc
from swarmd.store.store import Store

T = TypeVar("T")

# gRPC method names are the protocol's.
# ruff: noqa: N802


class NetworksServer(networks_pb2_grpc.NetworksServicer):
    """What a leader answers; ``cases``: those of the manager this node is now."""

    def __init__(self, cases: Callable[[], UseCases]) -> None:
        self._use_cases = cases

    def _cases(self) -> Networks:
        return self._use_cases().networks

    async def CreateNetwork(self, request: pb.CreateNetworkRequest, context: Any) -> pb.CreateNetworkResponse:
        async def answer() -> pb.CreateNetworkResponse:
            row = await self._cases().create(codec.from_proto(NetworkSpec, request.spec))
            return pb.CreateNetworkResponse(id=row.id)

        return await _answer(context, answer)

    async def ListNetworks(self, request: pb.ListNetworksRequest, context: Any) -> pb.ListNetworksResponse:
        async def answer() -> pb.ListNetworksResponse:
            cases = self._cases()
            return pb.ListNetworksResponse(networks=[_view(row, cases.usage(row)) for row in cases.all()])

        return await _answer(context, answer)

    async def GetNetwork(self, request: pb.GetNetworkRequest, context: Any) -> pb.GetNetworkResponse:
        async def answer() -> pb.GetNetworkResponse:
            cases = self._cases()
            row = cases.get(request.ref)
            usage = cases.usage(row)
            response = pb.GetNetworkResponse(network=_view(row, usage))
            for one in usage.containers:
                node = self._use_cases().store.get(Node, one.node_id)
                response.containers.append(_container(one, node, row.id))
            if request.verbose:
                _describe(response, row.id, usage, self._use_cases().store)
            return response

        return await _answer(context, answer)

    async def RemoveNetwork(self, request: pb.RemoveNetworkRequest, context: Any) -> pb.RemoveNetworkResponse:
        async def answer() -> pb.RemoveNetworkResponse:
            row = await self._cases().remove(request.ref)
            return pb.RemoveNetworkResponse(id=row.id, name=row.name)

        return await _answer(context, answer)

    async def PruneNetworks(self, request: pb.PruneNetworksRequest, context: Any) -> pb.PruneNetworksResponse:
        async def answer() -> pb.PruneNetworksResponse:
            selection = Selection(request.until, tuple(request.labels), tuple(request.without))
            return pb.PruneNetworksResponse(deleted=await self._cases().prune(selection))

        return await _answer(context, answer)

    async def ReleaseContainer(
        self, request: pb.ReleaseContainerRequest, context: Any
    ) -> pb.ReleaseContainerResponse:
        async def answer() -> pb.ReleaseContainerResponse:
            cases = self._cases()
            network = cases.get(request.network)
            found = cases.attached(network, request.container)
            await Attachments(self._use_cases().store).release(found.id, network.id)
            return pb.ReleaseContainerResponse(container_id=found.id)

        return await _answer(context, answer)


def serve(server: Any, cases: Callable[[], UseCases]) -> None:
    """Add the service to a gRPC server."""
    networks_pb2_grpc.add_NetworksServicer_to_server(NetworksServer(cases), server)


def _view(row: Network, usage: Usage) -> pb.NetworkView:
    view = pb.NetworkView(
        services=len(usage.services),
        tasks=len(usage.tasks),
        taken=usage.taken,
        addresses=usage.size,
        containers=len(usage.containers),
    )
    codec.fill(view.network, row)
    return view


def _describe(response: pb.GetNetworkResponse, network_id: str, usage: Usage, store: Store) -> None:
    """Services with their tasks, and the nodes these are on."""
    tasks: dict[str, list[Task]] = {}
    for task in sorted(usage.tasks, key=lambda task: (task.service_name, task.slot, task.created_at)):
        tasks.setdefault(task.service_id, []).append(task)
    services = {row.id: row for row in usage.services}
    for service_id in (*services, *(one for one in tasks if one not in services)):
        view = response.services.add(id=service_id)
        row = services.get(service_id) or store.get(Service, service_id)
        view.name = row.spec.name if row is not None else tasks[service_id][0].service_name
        if row is not None:
            _service(view, row, network_id)
        for task in tasks.get(service_id, ()):
            view.tasks.append(_task(task, store.get(Node, task.node_id), network_id))
    on = {task.node_id for task in usage.tasks} | {one.node_id for one in usage.containers}
    _peers(response, on, store)


def _container(row: SingleContainer, node: Node | None, network_id: str) -> pb.NetworkContainer:
    place = next(one for one in row.networks if one.network_id == network_id)
    state = node.status.state if node is not None else NodeState.DOWN
    return pb.NetworkContainer(
        id=row.id,
        name=row.name,
        node_id=row.node_id,
        hostname=node.description.hostname if node else "",
        node_address=node.status.address if node else "",
        addresses=place.addresses,
        aliases=place.aliases,
        up=row.up and state is not NodeState.DOWN,
        state=state.value,
    )


def _service(view: pb.NetworkService, row: Service, network_id: str) -> None:
    for vip in row.vips:
        if vip.network_id == network_id:
            view.addresses.extend(vip.addresses)
    for attachment in row.spec.template.networks:
        if attachment.target == network_id:
            view.aliases.extend(attachment.aliases)
    for port in row.ports:
        codec.fill(view.ports.add(), port)


def _task(task: Task, node: Node | None, network_id: str) -> pb.NetworkTask:
    return pb.NetworkTask(
        id=task.id,
        name=f"{task.name}.{task.id}",
        slot=task.slot,
        node_id=task.node_id,
        hostname=node.description.hostname if node else "",
        node_address=node.status.address if node else "",
        addresses=[a for one in task.networks if one.network_id == network_id for a in one.addresses],
        state=int(task.state),
        up=answers(task),
    )


def _peers(response: pb.GetNetworkResponse, nodes: Iterable[str], store: Store) -> None:
    for node in sorted(
        (node for one in nodes if (node := store.get(Node, one)) is not None), key=lambda node: node.number
    ):
        response.peers.add(node_id=node.id, hostname=node.description.hostname, address=node.status.address)


async def _answer(context: Any, answer: Callable[[], Awaitable[T]]) -> T:
    try:
        return await answer()
    except SwarmError as error:
        await errors.abort(context, error)
