"""The calls of the NodeApi service about the volumes of this node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from swarmd.model.errors import SwarmError
from swarmd.node.volume.core.volume import Volume
from swarmd.node.volume.volumes import Volumes
from swarmd.rpc import errors
from swarmd.rpc.v1 import node_pb2 as pb

T = TypeVar("T")

# gRPC method names are the protocol's.
# ruff: noqa: N802


class VolumeCalls:
    """Translates; the volumes act."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    async def CreateVolume(self, request: pb.CreateVolumeRequest, context: Any) -> pb.CreateVolumeResponse:
        async def create() -> pb.CreateVolumeResponse:
            volume = await self._volumes.create(request.name, dict(request.labels), driver=request.driver)
            return pb.CreateVolumeResponse(volume=await volume_view(self._volumes, volume, ()))

        return await answer(context, create)

    async def ListVolumes(self, request: pb.ListVolumesRequest, context: Any) -> pb.ListVolumesResponse:
        async def list_all() -> pb.ListVolumesResponse:
            users = self._volumes.all_users()
            views = [
                await volume_view(self._volumes, one, users.get(one.name, ()), measured=request.size)
                for one in await self._volumes.list()
            ]
            return pb.ListVolumesResponse(volumes=views)

        return await answer(context, list_all)

    async def GetVolume(self, request: pb.GetVolumeRequest, context: Any) -> pb.GetVolumeResponse:
        async def get() -> pb.GetVolumeResponse:
            volume = await self._volumes.get(request.name)
            users = self._volumes.users(volume.name)
            return pb.GetVolumeResponse(
                volume=await volume_view(self._volumes, volume, users, measured=request.size)
            )

        return await answer(context, get)

    async def RemoveVolume(self, request: pb.RemoveVolumeRequest, context: Any) -> pb.RemoveVolumeResponse:
        async def remove() -> pb.RemoveVolumeResponse:
            await self._volumes.remove(request.name)
            return pb.RemoveVolumeResponse()

        return await answer(context, remove)

    async def PruneVolumes(self, request: pb.PruneVolumesRequest, context: Any) -> pb.PruneVolumesResponse:
        async def prune() -> pb.PruneVolumesResponse:
            wanted = (text.partition("=") for text in request.labels)
            labels = {key: value if equals else None for key, equals, value in wanted}
            deleted, freed = await self._volumes.prune(everything=request.all, labels=labels)
            return pb.PruneVolumesResponse(deleted=deleted, reclaimed=freed)

        return await answer(context, prune)


async def volume_view(
    volumes: Volumes, volume: Volume, users: Iterable[str], *, measured: bool = False
) -> pb.Volume:
    """A volume as users see it; ``measured``: with what it takes on the disk."""
    return pb.Volume(
        name=volume.name,
        driver="local",
        mountpoint=volumes.path(volume.name),
        created_at=volume.created_at,
        labels=volume.labels,
        users=users,
        size=await volumes.size(volume.name) if measured else -1,
    )


async def answer(context: Any, work: Callable[[], Awaitable[T]]) -> T:
    """What ``work`` answers, or the call's end with its error."""
    try:
        return await work()
    except SwarmError as error:
        await errors.abort(context, error)
