"""The calls of the Containers service on this node's own containers, and those that only its socket has."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from swarmd.image.store import ImageStore
from swarmd.kit.clock import Clock
from swarmd.kit.ids import NewId
from swarmd.model.errors import SwarmError
from swarmd.model.network import NetworkAttachment
from swarmd.model.spec import ContainerSpec, Resources
from swarmd.node.containers.local import LocalContainers
from swarmd.node.containers.server import ContainerServer
from swarmd.node.containers.views import view
from swarmd.node.solo.core import networks
from swarmd.node.solo.core.record import Record, parse_restart
from swarmd.node.solo.keeper import Keeper
from swarmd.rpc import codec, errors
from swarmd.rpc.v1 import containers_pb2 as pb

# gRPC method names are the protocol's.
# ruff: noqa: N802


class OwnContainers(ContainerServer):
    """For users of the daemon's socket.  ``keeper`` has those that are no task's."""

    def __init__(
        self, containers: LocalContainers, clock: Clock, keeper: Keeper, images: ImageStore, new_id: NewId
    ) -> None:
        super().__init__(containers, clock, remote=False)
        self._keeper = keeper
        self._images = images
        self._new_id = new_id

    async def ListContainers(
        self, request: pb.ListContainersRequest, context: Any
    ) -> pb.ListContainersResponse:
        answer = pb.ListContainersResponse(containers=all_views(self._here, self._keeper))
        for one in answer.containers if request.size else ():
            await self._measure(one)
        return answer

    async def _measure(self, view: pb.ContainerView) -> None:
        with contextlib.suppress(SwarmError):  # removed meanwhile, or not made
            view.size = await self._here.archives.size(view.id)
            view.image_size = self._images.resolve(self._here.image_of(view.id)).size

    async def GetContainer(self, request: pb.ContainerRequest, context: Any) -> pb.GetContainerResponse:
        answer = await super().GetContainer(request, context)
        _complete(answer.container, self._keeper)
        return answer

    async def CreateContainer(
        self, request: pb.CreateContainerRequest, context: Any
    ) -> pb.CreateContainerResponse:
        try:
            record = await self._keeper.create(self._record(request))
        except SwarmError as error:
            await errors.abort(context, error)
        return pb.CreateContainerResponse(id=record.id, name=record.name)

    def _record(self, request: pb.CreateContainerRequest) -> Record:
        spec = codec.from_proto(ContainerSpec, request.spec)
        return Record(
            id=self._new_id(),
            name=request.name,
            image=spec.image,
            digest=self._images.resolve(spec.image).digest,
            spec=spec,
            limits=codec.from_proto(Resources, request.limits),
            runtime=request.runtime,
            network=request.network,
            networks=networks.asked(codec.from_proto(NetworkAttachment, one) for one in request.networks),
            restart=parse_restart(request.restart),
            auto_remove=request.auto_remove,
            created_at=self._clock.now(),
        )

    async def StartContainer(self, request: pb.ContainerRequest, context: Any) -> pb.ContainerResponse:
        return await self._changed(context, request.ref, self._keeper.start)

    async def StopContainer(self, request: pb.StopContainerRequest, context: Any) -> pb.ContainerResponse:
        grace = request.grace if request.HasField("grace") else None
        return await self._changed(
            context, request.ref, lambda one: self._keeper.stop(one, signal=request.signal, grace=grace)
        )

    async def RestartContainer(self, request: pb.StopContainerRequest, context: Any) -> pb.ContainerResponse:
        grace = request.grace if request.HasField("grace") else None
        return await self._changed(
            context, request.ref, lambda one: self._keeper.restart(one, signal=request.signal, grace=grace)
        )

    async def RemoveContainer(self, request: pb.RemoveContainerRequest, context: Any) -> pb.ContainerResponse:
        return await self._changed(
            context,
            request.ref,
            lambda one: self._keeper.remove(one, force=request.force, volumes=request.volumes),
        )

    async def ConnectNetwork(self, request: pb.ConnectNetworkRequest, context: Any) -> pb.ContainerResponse:
        wanted = codec.from_proto(NetworkAttachment, request.network)
        return await self._changed(context, request.ref, lambda one: self._keeper.connect(one, wanted))

    async def DisconnectNetwork(
        self, request: pb.DisconnectNetworkRequest, context: Any
    ) -> pb.ContainerResponse:
        return await self._changed(
            context, request.ref, lambda one: self._keeper.disconnect(one, request.network)
        )

    async def _changed(
        self, context: Any, ref: str, act: Callable[[str], Awaitable[None]]
    ) -> pb.ContainerResponse:
        try:
            container_id = self._found(ref)
            await act(container_id)
        except SwarmError as error:
            await errors.abort(context, error)
        return pb.ContainerResponse(container_id=container_id)

    def _found(self, ref: str) -> str:
        """A single container, else one of a task: the keeper says what is wrong with that."""
        try:
            return self._keeper.find(ref).id
        except SwarmError:
            return self._here.find(ref)


def all_views(here: LocalContainers, keeper: Keeper) -> list[pb.ContainerView]:
    """Every container of this node, as lists show it; single ones also when they could not be made."""
    found = []
    for state in here.runtime.list():
        one = view(here, state)
        _complete(one, keeper)
        found.append(one)
    made = {one.id for one in found}
    return found + [_unmade(record) for record in keeper.all() if record.id not in made]


def _complete(view: pb.ContainerView, keeper: Keeper) -> None:
    """What the record of a single container says beside the runtime."""
    record = keeper.get(view.id)
    if record is not None:
        view.created_at, view.address, view.restarts = record.created_at, record.address, record.restarts
        view.status = "restarting" if keeper.waits(view.id) else view.status
        view.restart_policy = record.restart.policy
        for one in record.networks:
            view.networks.add(name=one.name, id=one.id, addresses=one.addresses, aliases=one.aliases)


def _unmade(record: Record) -> pb.ContainerView:
    """One whose container could not be made when it was to run again: it is there all the same."""
    return pb.ContainerView(
        id=record.id,
        name=record.name,
        image=record.image,
        command=(*record.spec.command, *record.spec.args),
        created_at=record.created_at,
        status="created",
        restarts=record.restarts,
        restart_policy=record.restart.policy,
    )
