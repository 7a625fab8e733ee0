"""The calls of the Control service about images of the whole swarm: its registry, and fetching ahead."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from swarmd.control.preload import Preloading
from swarmd.control.registry import Registry
from swarmd.model.errors import SwarmError
from swarmd.rpc import errors
from swarmd.rpc.v1 import control_pb2 as pb

# gRPC method names are the protocol's.
# ruff: noqa: N802


class Cases(Protocol):
    """The part of the use cases that is about images."""

    @property
    def registry(self) -> Registry: ...
    @property
    def preloading(self) -> Preloading: ...


class ImageCalls:
    """Translates; the use cases act."""

    def __init__(self, cases: Callable[[], Cases]) -> None:
        self._image_cases = cases

    async def ListRegistry(self, request: pb.ListRegistryRequest, context: Any) -> pb.ListRegistryResponse:
        try:
            entries = self._image_cases().registry.entries(request.repository)
        except SwarmError as error:
            await errors.abort(context, error)
        response = pb.ListRegistryResponse()
        for one in entries:
            response.entries.add(
                repository=one.repository,
                tag=one.tag,
                digest=one.digest,
                size=one.size,
                pushed_at=one.pushed_at,
                media_type=one.media_type,
            )
        return response

    async def RemoveFromRegistry(
        self, request: pb.RemoveFromRegistryRequest, context: Any
    ) -> pb.RemoveFromRegistryResponse:
        try:
            untagged, deleted = await self._image_cases().registry.remove(request.ref)
        except SwarmError as error:
            await errors.abort(context, error)
        return pb.RemoveFromRegistryResponse(untagged=untagged, deleted=deleted)

    async def PreloadImage(
        self, request: pb.PreloadImageRequest, context: Any
    ) -> AsyncIterator[pb.PreloadImageResponse]:
        try:
            news = self._image_cases().preloading.run(
                request.ref, tuple(request.constraints), detach=request.detach
            )
            async with contextlib.aclosing(news):
                async for one in news:
                    yield pb.PreloadImageResponse(
                        node_id=one.node_id,
                        hostname=one.hostname,
                        state=one.state,
                        message=one.message,
                        current=one.current,
                        total=one.total,
                    )
        except SwarmError as error:
            await errors.abort(context, error)
