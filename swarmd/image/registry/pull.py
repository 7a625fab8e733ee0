"""An image that was found in a registry: its blobs, three at a time, and then the image.

manifest ──► config ──► platform as asked? ──► layers ──► the image store checks and keeps ──► unpacked
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from swarmd.image.core.catalog import ImageInfo, kept_name
from swarmd.image.core.config import MAX_CONFIG, read_config
from swarmd.image.core.manifest import Descriptor, read_manifest
from swarmd.image.port import Content, Progress
from swarmd.image.registry.core import documents
from swarmd.image.registry.core.documents import Document, Wanted
from swarmd.image.registry.download import Downloads, short
from swarmd.image.registry.remote import Remote
from swarmd.image.streams import DiskFull
from swarmd.kit.supervise import together
from swarmd.model.errors import Invalid
from swarmd.model.image_ref import ImageRef

AT_A_TIME = 3
"""Downloads, of all pulls together, as Docker's daemon has them."""


class Images(Protocol):
    """The image store, as far as registries need it."""

    @property
    def content(self) -> Content: ...

    def list(self) -> list[ImageInfo]: ...

    def resolve(self, ref_or_id: str) -> ImageInfo: ...

    def manifest(self, ref_or_digest: str) -> bytes: ...

    async def add(
        self, manifest: bytes, refs: tuple[str, ...] = (), *, index: bytes | None = None
    ) -> ImageInfo: ...

    async def prepare(self, ref_or_digest: str) -> object: ...


def silent(item: str, state: str, current: int = 0, total: int = 0) -> None:
    """Progress that nobody wants to hear."""


class Found(msgspec.Struct, frozen=True):
    """What a name leads to: ``document`` under the name, ``manifest`` of the platform in it."""

    ref: ImageRef
    document: Document
    manifest: Document


class Pulls:
    """Pulls of one client, which share downloads and their number."""

    def __init__(self, images: Images, downloads: Downloads) -> None:
        self._images = images
        self._downloads = downloads
        self._slots = asyncio.Semaphore(AT_A_TIME)

    async def take(
        self, remote: Remote, found: Found, platform: Wanted | None, progress: Progress
    ) -> ImageInfo:
        """Have it here, unpacked.  ``platform``: which it must be of, None for any.

        Raises Invalid, NotFound, Denied, Unavailable.
        """
        manifest = read_manifest(found.manifest.raw)
        if manifest.config.size > MAX_CONFIG:
            raise Invalid(f"an image configuration of {manifest.config.size} bytes is refused")
        content = self._images.content
        digests = (found.manifest.digest, found.document.digest, *(blob.digest for blob in manifest.blobs()))
        try:
            with content.holding(digests):
                await self._downloads.have(remote, manifest.config, silent)
                config = read_config(content.path(manifest.config.digest).read_bytes())
                documents.check_platform(config.platform, platform, found.ref.familiar())
                fresh = await self._layers(remote, manifest.layers, progress)
                index = found.document.raw if found.document.is_index else None
                names = (kept_name(found.ref.familiar()),)
                info = await self._images.add(found.manifest.raw, names, index=index)
            await self._images.prepare(info.digest)
        except DiskFull:  # to go on with it some other day is worth less than the room
            await self._downloads.give_up(digests)
            await content.give_back(digests)
            raise
        except BaseException:
            content.leave(digests)
            raise
        for layer in fresh:
            progress(short(layer), "Pull complete")
        return info

    async def _layers(
        self, remote: Remote, layers: tuple[Descriptor, ...], progress: Progress
    ) -> tuple[str, ...]:
        """Have them all; answers digests of those that were not here."""

        async def one(layer: Descriptor) -> None:
            async with self._slots:
                await self._downloads.have(remote, layer, progress)

        fresh: dict[str, Descriptor] = {}
        for layer in layers:
            is_here = self._images.content.has(layer.digest)
            if layer.digest not in fresh:
                progress(short(layer.digest), "Already exists" if is_here else "Pulling fs layer")
            if not is_here:
                fresh[layer.digest] = layer
        await together(*(one(layer) for layer in fresh.values()))
        return tuple(fresh)
