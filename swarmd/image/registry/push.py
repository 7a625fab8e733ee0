"""An image from here to a registry: layers, five at a time, then the configuration, the manifest last."""

from __future__ import annotations

import asyncio

from swarmd.image.core.config import read_config
from swarmd.image.core.manifest import Descriptor, Manifest, read_manifest
from swarmd.image.port import Progress
from swarmd.image.registry import manifests
from swarmd.image.registry.core import documents
from swarmd.image.registry.download import short
from swarmd.image.registry.hints import Hints
from swarmd.image.registry.pull import Images, silent
from swarmd.image.registry.remote import Remote
from swarmd.image.registry.upload import Uploads
from swarmd.kit.supervise import together
from swarmd.model.errors import Invalid, NotFound
from swarmd.model.image_ref import ImageRef

AT_A_TIME = 5
"""Uploads of one push, as Docker's daemon has them."""


class Push:
    """One image to ``remote``; ``hints`` say where its blobs may be mounted from."""

    def __init__(
        self, images: Images, remote: Remote, uploads: Uploads, hints: Hints, progress: Progress
    ) -> None:
        self._images = images
        self._remote = remote
        self._uploads = uploads
        self._hints = hints
        self._progress = progress

    async def give(self, ref: ImageRef) -> str:
        """The manifest's digest there.  Raises NotFound when it is not here, Denied, Invalid, Unavailable."""
        info = self._images.resolve(ref.familiar())
        raw = self._images.manifest(info.digest)
        manifest = read_manifest(raw)
        self._progress("", f"The push refers to repository [{ref.name}]")
        with self._images.content.holding((info.digest, *(blob.digest for blob in manifest.blobs()))):
            await self._layers(manifest)
            await self._uploads.give(self._remote, manifest.config, "", (), silent)
            digest, size = await self._image(ref.tag or info.digest, raw)
        place = self._remote.place
        self._hints.found((blob.digest for blob in manifest.blobs()), place.host, place.repository)
        self._progress("", f"{ref.tag or 'digest'}: digest: {digest} size: {size}")
        return digest

    async def _layers(self, manifest: Manifest) -> None:
        config = await asyncio.to_thread(self._images.content.path(manifest.config.digest).read_bytes)
        diff_ids = read_config(config).diff_ids
        items = dict(zip(manifest.layers, map(short, diff_ids), strict=True))
        unique = {layer.digest: layer for layer in manifest.layers}
        for layer in unique.values():
            self._progress(items[layer], "Preparing")
        slots = asyncio.Semaphore(AT_A_TIME)

        async def one(layer: Descriptor) -> None:
            async with slots:
                await self._layer(layer, items[layer])

        await together(*(one(layer) for layer in unique.values()))

    async def _layer(self, layer: Descriptor, item: str) -> None:
        if documents.is_foreign(layer.media_type):
            self._progress(item, "Skipped foreign layer")
            return
        place = self._remote.place
        sources = self._hints.sources(layer.digest, place.host, but=place.repository)
        await self._uploads.give(self._remote, layer, item, sources, self._progress)

    async def _image(self, reference: str, raw: bytes) -> tuple[str, int]:
        """(digest, size) of the manifest as it is there: one that knows only Docker's words gets those."""
        media_type = documents.media_type_of(raw)
        try:
            await manifests.put(self._remote, reference, media_type, raw)
        except (Invalid, NotFound):
            other = documents.as_docker(raw) if media_type == documents.OCI_MANIFEST else None
            if other is None or ":" in reference:
                raise
            await manifests.put(self._remote, reference, documents.DOCKER_MANIFEST, other)
            raw = other
        return documents.digest_of(raw), len(raw)
