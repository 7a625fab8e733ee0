"""An image that this node lacks comes from nodes that have it, else from where its name says.

leader: what does the name mean, who has it ──► manifest ──► configuration and layers, some at once
            └─ nobody ──► the origin: an outside registry
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Protocol

import grpc

from swarmd.image.core.catalog import ImageInfo, kept_name
from swarmd.image.core.manifest import read_manifest
from swarmd.image.port import Content, Progress
from swarmd.image.streams import DiskFull
from swarmd.kit.clock import Clock
from swarmd.kit.ids import random_fraction
from swarmd.model import image_ref
from swarmd.model.errors import NotFound, SwarmError, Unavailable
from swarmd.node.distribution import parts
from swarmd.node.distribution.blobs import Blobs, silent
from swarmd.node.distribution.core.choosing import Provider
from swarmd.node.distribution.wire import provider_of
from swarmd.rpc.errors import calling
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc

WAITS = 40
"""Times that is asked again, about one and a half seconds apart, while others get an image from outside."""


class LeaderChannel(Protocol):
    """A channel to the leader; raises Unavailable while there is none."""

    def __call__(self) -> grpc.aio.Channel: ...


class Images(Protocol):
    """What is asked of the image store."""

    @property
    def content(self) -> Content: ...

    def resolve(self, ref_or_id: str) -> ImageInfo: ...

    async def add(
        self, manifest: bytes, refs: tuple[str, ...] = (), *, index: bytes | None = None
    ) -> ImageInfo: ...


class Origin(Protocol):
    """Outside registries; raises NotFound, Denied, Unavailable."""

    async def pull(self, ref: str, *, progress: Progress) -> object: ...


class ImageFetcher:
    """Has images here.  ``arch``: of this machine; ``origin``: asked when nobody in the swarm has one."""

    def __init__(
        self,
        images: Images,
        blobs: Blobs,
        leader: LeaderChannel,
        said: Callable[[str], None],
        *,
        arch: str,
        clock: Clock,
        changed: Callable[[], None] = lambda: None,
        origin: Origin | None = None,
    ) -> None:
        self._images = images
        self._blobs = blobs
        self._leader = leader
        self._said = said
        self._arch = arch
        self._clock = clock
        self._changed = changed
        self._origin = origin

    async def ensure(self, ref: str, *, progress: Progress = silent) -> None:
        """Have the image here.

        Raises NotFound ("No such image: X") when no node has it, Unavailable when nobody can be asked now.
        """
        try:
            self._images.resolve(ref)
        except NotFound:
            await self._fetch(ref, progress)
            self._changed()

    async def _fetch(self, ref: str, progress: Progress) -> None:
        located = await self._located(ref)
        if not located.digest:
            await self._from_origin(ref, progress)
            return
        holders = [provider_of(holder) for holder in located.holders]
        self._said(f"fetching image {image_ref.parse(ref).familiar()} from {_names(holders)}")
        try:
            await self._copy(ref, located.digest, holders, progress)
        except NotFound as error:
            # It is known, and was somewhere: a task that gave up for good now would be wrong a moment later.
            raise Unavailable(f"image {ref} could not be fetched: {error}") from error

    async def _from_origin(self, ref: str, progress: Progress) -> None:
        if self._origin is None:
            raise NotFound(f"No such image: {image_ref.parse(ref).familiar()}")
        self._said(f"pulling image {ref}")
        try:
            await self._origin.pull(ref, progress=progress)
        except SwarmError:
            with contextlib.suppress(SwarmError):
                await self._locate(ref, failed=True)
            raise

    async def _copy(self, ref: str, digest: str, holders: list[Provider], progress: Progress) -> None:
        content = self._images.content
        found = await parts.manifest_for(self._blobs, content, digest, self._arch, first=holders)
        digests = [blob.digest for blob in read_manifest(found.manifest).blobs()]
        try:
            with content.holding((digest, *digests)):
                await self._blobs.ensure_blobs(digests, first=holders, progress=progress)
                await self._images.add(found.manifest, (kept_name(ref),), index=found.index)
        except DiskFull:  # what came of it is not spared for the next try: that may be on another node
            await content.give_back((digest, *digests))
            raise
        except BaseException:
            content.leave((digest, *digests))
            raise

    async def _located(self, ref: str) -> agent_pb2.LocateImageResponse:
        """Where it is.  While others are getting it from outside, they are waited for, but not for ever."""
        located = await self._locate(ref)
        if self._origin is None:
            return located
        for _ in range(WAITS):
            if not located.wait:
                break
            await self._clock.sleep(1.0 + random_fraction())
            located = await self._locate(ref)
        return located

    async def _locate(self, ref: str, *, failed: bool = False) -> agent_pb2.LocateImageResponse:
        stub = agent_pb2_grpc.DispatcherStub(self._leader())
        with calling():
            answer: agent_pb2.LocateImageResponse = await stub.LocateImage(
                agent_pb2.LocateImageRequest(ref=ref, failed=failed), timeout=5
            )
        return answer


def _names(holders: Iterable[Provider]) -> str:
    return ", ".join(holder.address for holder in holders) or "the managers"
