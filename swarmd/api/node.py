"""The NodeApi service: one daemon's own part in the swarm, and its images.  Unix socket only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Protocol

from swarmd.api.core.audit import is_since
from swarmd.api.image_views import image_view
from swarmd.api.node_volumes import VolumeCalls, answer
from swarmd.image.core.catalog import ImageInfo
from swarmd.image.store import ImageStore
from swarmd.model.errors import Invalid, NotFound, SwarmError
from swarmd.node.volume.volumes import Volumes
from swarmd.rpc import errors
from swarmd.rpc.v1 import node_pb2 as pb
from swarmd.rpc.v1 import node_pb2_grpc

# gRPC method names are the protocol's.
# ruff: noqa: N802


class NodeActions(Protocol):
    """What the daemon does with itself."""

    def info(self) -> pb.InfoResponse: ...
    async def init_swarm(self, request: pb.InitSwarmRequest) -> pb.InitSwarmResponse: ...
    async def join_swarm(self, request: pb.JoinSwarmRequest) -> pb.JoinSwarmResponse: ...
    async def unlock_swarm(self, key: str) -> None: ...
    async def restore_swarm(
        self, request: pb.RestoreSwarmRequest, snapshot: bytes
    ) -> pb.RestoreSwarmResponse: ...
    async def leave_swarm(self, *, force: bool) -> None: ...
    def audit(self, *, tail: int, follow: bool) -> AsyncGenerator[bytes, None]: ...
    def images_changed(self) -> None: ...
    def image_users(self, digest: str) -> list[str]: ...


class NodeServer(VolumeCalls, node_pb2_grpc.NodeApiServicer):
    """Translates; the daemon, the image store and the volumes act."""

    def __init__(self, actions: NodeActions, images: ImageStore, volumes: Volumes) -> None:
        super().__init__(volumes)
        self._actions = actions
        self._images = images

    async def Info(self, request: pb.InfoRequest, context: Any) -> pb.InfoResponse:
        return self._actions.info()

    async def InitSwarm(self, request: pb.InitSwarmRequest, context: Any) -> pb.InitSwarmResponse:
        return await answer(context, lambda: self._actions.init_swarm(request))

    async def JoinSwarm(self, request: pb.JoinSwarmRequest, context: Any) -> pb.JoinSwarmResponse:
        return await answer(context, lambda: self._actions.join_swarm(request))

    async def UnlockSwarm(self, request: pb.UnlockSwarmRequest, context: Any) -> pb.UnlockSwarmResponse:
        async def unlock() -> pb.UnlockSwarmResponse:
            await self._actions.unlock_swarm(request.unlock_key)
            return pb.UnlockSwarmResponse()

        return await answer(context, unlock)

    async def LeaveSwarm(self, request: pb.LeaveSwarmRequest, context: Any) -> pb.LeaveSwarmResponse:
        async def leave() -> pb.LeaveSwarmResponse:
            await self._actions.leave_swarm(force=request.force)
            return pb.LeaveSwarmResponse()

        return await answer(context, leave)

    async def ReadAudit(
        self, request: pb.ReadAuditRequest, context: Any
    ) -> AsyncIterator[pb.ReadAuditResponse]:
        lines = self._actions.audit(tail=request.tail, follow=request.follow)
        try:
            async with contextlib.aclosing(lines):
                async for line in lines:
                    if is_since(line, request.since):
                        yield pb.ReadAuditResponse(line=line)
        except SwarmError as error:
            await errors.abort(context, error)

    async def RestoreSwarm(
        self, request_iterator: AsyncIterator[pb.RestoreSwarmRequest], context: Any
    ) -> pb.RestoreSwarmResponse:
        async def restore() -> pb.RestoreSwarmResponse:
            first = await anext(request_iterator, None)
            if first is None:
                raise Invalid("a restore begins with the address to use")
            snapshot = bytearray(first.data)
            async for message in request_iterator:
                snapshot += message.data
            return await self._actions.restore_swarm(first, bytes(snapshot))

        return await answer(context, restore)

    async def ListImages(self, request: pb.ListImagesRequest, context: Any) -> pb.ListImagesResponse:
        infos = self._images.list()
        labels = await asyncio.to_thread(lambda: [self._labels(info) for info in infos])
        return pb.ListImagesResponse(
            images=[self._image(info, each) for info, each in zip(infos, labels, strict=True)]
        )

    def _image(self, info: ImageInfo, labels: Mapping[str, str]) -> pb.Image:
        return image_view(info, users=self._actions.image_users(info.digest), labels=labels)

    def _labels(self, info: ImageInfo) -> Mapping[str, str]:
        try:
            return self._images.config(info.digest).labels
        except (NotFound, OSError):  # removed meanwhile
            return {}

    async def GetImage(self, request: pb.GetImageRequest, context: Any) -> pb.GetImageResponse:
        async def get() -> pb.GetImageResponse:
            info = self._images.resolve(request.ref)
            return pb.GetImageResponse(
                image=self._image(info, self._labels(info)),
                manifest_json=self._images.manifest(info.digest),
                config_json=self._images.blob_path(info.id).read_bytes(),
            )

        return await answer(context, get)

    async def LoadImages(
        self, request_iterator: AsyncIterator[pb.LoadImagesRequest], context: Any
    ) -> pb.LoadImagesResponse:
        async def load() -> pb.LoadImagesResponse:
            first = await anext(request_iterator, pb.LoadImagesRequest())

            async def data() -> AsyncIterator[bytes]:
                yield first.data
                async for message in request_iterator:
                    yield message.data

            refs = await self._images.load(data(), platform=first.platform)
            self._actions.images_changed()
            return pb.LoadImagesResponse(refs=refs)

        return await answer(context, load)

    async def ImportImage(
        self, request_iterator: AsyncIterator[pb.ImportImageRequest], context: Any
    ) -> pb.ImportImageResponse:
        async def work() -> pb.ImportImageResponse:
            first = await anext(request_iterator, None)
            if first is None:
                raise Invalid("an import begins with the name of the image")

            async def data() -> AsyncIterator[bytes]:
                if first.data:
                    yield first.data
                async for message in request_iterator:
                    yield message.data

            image_id = await self._images.import_rootfs(
                data(),
                first.ref,
                tuple(first.changes),
                message=first.message,
                platform=first.platform,
            )
            self._actions.images_changed()
            return pb.ImportImageResponse(id=image_id)

        return await answer(context, work)

    async def TagImage(self, request: pb.TagImageRequest, context: Any) -> pb.TagImageResponse:
        async def tag() -> pb.TagImageResponse:
            await self._images.tag(request.source, request.target)
            self._actions.images_changed()
            return pb.TagImageResponse()

        return await answer(context, tag)

    async def RemoveImage(self, request: pb.RemoveImageRequest, context: Any) -> pb.RemoveImageResponse:
        async def remove() -> pb.RemoveImageResponse:
            removals = await self._images.remove(
                request.ref, in_use=self._actions.image_users, force=request.force
            )
            self._actions.images_changed()
            return pb.RemoveImageResponse(
                untagged=[removal.untagged for removal in removals if removal.untagged],
                deleted=[removal.deleted for removal in removals if removal.deleted],
            )

        return await answer(context, remove)
