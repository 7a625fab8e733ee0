"""The Images service: history, archives and pruning of this node's images, and what takes room here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

from swarmd.api.image_views import image_view
from swarmd.api.node_volumes import answer, volume_view
from swarmd.api.own_containers import all_views
from swarmd.image.core.config import linux_platform, read_config
from swarmd.image.core.history import steps
from swarmd.image.core.manifest import read_manifest
from swarmd.image.core.selection import Selection
from swarmd.image.store import ImageStore
from swarmd.model.errors import NotFound, Refused, SwarmError
from swarmd.node.containers.local import LocalContainers
from swarmd.node.solo.keeper import Keeper
from swarmd.node.volume.volumes import Volumes
from swarmd.rpc import errors
from swarmd.rpc.v1 import images_pb2 as pb
from swarmd.rpc.v1 import images_pb2_grpc

# gRPC method names are the protocol's.
# ruff: noqa: N802

Cache = Callable[[], Awaitable[Sequence[pb.CacheUsage]]]
"""What the build cache holds."""


class ImageActions(Protocol):
    """What the daemon knows and does about images."""

    def images_changed(self) -> None: ...
    def image_users(self, digest: str) -> list[str]: ...


class ImagesServer(images_pb2_grpc.ImagesServicer):
    """Translates; the image store, the containers and the volumes act."""

    def __init__(
        self,
        images: ImageStore,
        containers: LocalContainers,
        keeper: Keeper,
        volumes: Volumes,
        actions: ImageActions,
        cache: Cache,
    ) -> None:
        self._images = images
        self._here = containers
        self._keeper = keeper
        self._volumes = volumes
        self._actions = actions
        self._cache = cache

    async def GetHistory(self, request: pb.GetHistoryRequest, context: Any) -> pb.GetHistoryResponse:
        async def get() -> pb.GetHistoryResponse:
            info = self._images.resolve(request.ref)
            raw = await asyncio.to_thread(self._images.blob_path(info.id).read_bytes)
            layers = read_manifest(self._images.manifest(info.digest)).layers
            found = steps(read_config(raw).history, [layer.size for layer in layers])
            entries = [
                pb.HistoryEntry(
                    created_at=step.created, created_by=step.created_by, size=step.size, comment=step.comment
                )
                for step in found
            ]
            if entries:
                entries[0].id = info.id
                entries[0].tags.extend(ref for ref in info.refs if "@" not in ref)
            return pb.GetHistoryResponse(entries=entries)

        return await answer(context, get)

    async def SaveImages(
        self, request: pb.SaveImagesRequest, context: Any
    ) -> AsyncIterator[pb.SaveImagesResponse]:
        try:
            if request.platform:
                await asyncio.to_thread(self._check, request.refs, request.platform)
            pieces = self._images.save(*request.refs)
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    yield pb.SaveImagesResponse(data=piece)
        except SwarmError as error:
            await errors.abort(context, error)

    def _check(self, refs: Sequence[str], platform: str) -> None:
        """Raises NotFound for an image that is for another platform."""
        wanted = linux_platform(platform)
        for ref in refs:
            info = self._images.resolve(ref)
            found = read_config(self._images.blob_path(info.id).read_bytes()).platform
            arch, variant = linux_platform(found)
            if (arch, variant if wanted[1] else "") != wanted:
                raise NotFound(
                    f"image with reference {ref} was found but does not provide the specified platform "
                    f"({platform}): it is for {found}"
                )

    async def PruneImages(self, request: pb.PruneImagesRequest, context: Any) -> pb.PruneImagesResponse:
        async def prune() -> pb.PruneImagesResponse:
            selection = Selection(request.until, tuple(request.labels), tuple(request.without))
            among = None if selection.is_all else await asyncio.to_thread(self._taken, selection)
            report = await self._images.gc(
                self._actions.image_users, untagged=True, everything=request.all, among=among
            )
            self._actions.images_changed()
            return pb.PruneImagesResponse(
                untagged=[removal.untagged for removal in report.removals if removal.untagged],
                deleted=[removal.deleted for removal in report.removals if removal.deleted],
                reclaimed=report.reclaimed,
            )

        return await answer(context, prune)

    def _taken(self, selection: Selection) -> set[str]:
        """Manifest digests."""
        taken = set()
        for info in self._images.list():
            with contextlib.suppress(NotFound, OSError):  # removed meanwhile
                if selection.takes(info.created, self._images.config(info.digest).labels):
                    taken.add(info.digest)
        return taken

    async def PruneContainers(
        self, request: pb.PruneContainersRequest, context: Any
    ) -> pb.PruneContainersResponse:
        async def prune() -> pb.PruneContainersResponse:
            selection = Selection(request.until, tuple(request.labels), tuple(request.without))
            done = pb.PruneContainersResponse()
            for record in self._keeper.all():
                if not self._is_up(record.id) and selection.takes(record.created_at, record.spec.labels):
                    size = await self._size(record.id)
                    with contextlib.suppress(NotFound, Refused):  # removed, or started, meanwhile
                        await self._keeper.remove(record.id, force=False, volumes=False)
                        done.deleted.append(record.id)
                        done.reclaimed += size
            return done

        return await answer(context, prune)

    def _is_up(self, container_id: str) -> bool:
        state = self._here.runtime.inspect(container_id)
        return self._keeper.waits(container_id) or (state is not None and state.status == "running")

    async def GetUsage(self, request: pb.GetUsageRequest, context: Any) -> pb.GetUsageResponse:
        return await answer(context, self._usage)

    async def _usage(self) -> pb.GetUsageResponse:
        usage = await self._images.usage(self._actions.image_users)
        found = pb.GetUsageResponse(images_size=usage.total, images_reclaimable=usage.reclaimable)
        uses = {use.digest: use for use in usage.images}
        for info in self._images.list():
            if use := uses.get(info.digest):
                shown = image_view(info, users=self._actions.image_users(info.digest))
                found.images.append(pb.ImageUsage(image=shown, size=use.size, shared=use.shared))
        mounted = self._volumes.all_users()
        for one in all_views(self._here, self._keeper):
            volumes = sum(one.id in owners for owners in mounted.values())
            size = await self._size(one.id)
            found.containers.append(pb.ContainerDiskUsage(container=one, size=size, volumes=volumes))
        for volume in await self._volumes.list():
            users = mounted.get(volume.name, ())
            found.volumes.append(await volume_view(self._volumes, volume, users, measured=True))
        found.cache.extend(await self._cache())
        for cached in found.cache:
            cached.shared = bool(cached.digest) and self._is_in_an_image(cached.digest)
        return found

    def _is_in_an_image(self, digest: str) -> bool:
        try:
            self._images.blob_path(digest)
        except NotFound:
            return False
        return True

    async def _size(self, container_id: str) -> int:
        try:
            return await self._here.archives.size(container_id)
        except SwarmError:  # removed meanwhile, or being made
            return 0
