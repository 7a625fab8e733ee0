"""Images out of parts: a manifest whose blobs are here, layers and a configuration, an overlay's upper.

Asyncio; the work is done in threads.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from swarmd.image.content import BlobContent
from swarmd.image.core.archive import compression_of
from swarmd.image.core.catalog import ImageRow, kept_name, row_for
from swarmd.image.core.config import MAX_CONFIG
from swarmd.image.core.manifest import (
    Descriptor,
    Manifest,
    layer_descriptor,
    read_index,
    read_manifest,
    sha256,
    write_manifest,
)
from swarmd.image.keeper import Keeper
from swarmd.image.port import Layer
from swarmd.image.streams import disk_errors
from swarmd.image.trees import Trees
from swarmd.model.errors import Invalid


class Composing:
    """Makes images in the store of ``keeper``."""

    def __init__(self, keeper: Keeper, content: BlobContent, trees: Trees) -> None:
        self._keeper = keeper
        self._content = content
        self._trees = trees

    async def add(self, manifest: bytes, refs: tuple[str, ...], index: bytes | None) -> ImageRow:
        """Make the manifest an image; layers not seen before are verified, by unpacking them."""
        parsed = read_manifest(manifest)
        if index is not None:
            read_index(index)
        names = tuple(kept_name(ref) for ref in refs)
        blobs = [blob.digest for blob in parsed.blobs()]
        documents = [sha256(manifest), *([sha256(index)] if index is not None else [])]
        with self._keeper.pins.holding((*documents, *blobs)):
            row = await asyncio.to_thread(self._row, manifest, parsed)
            with self._keeper.pins.holding(row.diff_ids):
                await self._verify(row)
                await asyncio.to_thread(self._keeper.disk.write_blob, manifest)
                if index is not None:
                    await asyncio.to_thread(self._keeper.disk.write_blob, index)
                async with self._keeper.change:
                    found = documents[1] if index is not None else ""
                    await self._keeper.save(self._keeper.catalog.add(row, names, index=found))
        self._keeper.fresh.forget((*documents, *blobs, *row.diff_ids))
        return row

    async def compose(self, config: bytes, layers: tuple[Layer, ...], refs: tuple[str, ...]) -> ImageRow:
        """An image of ``config`` and ``layers``, bottom first."""
        if (known := self._known(config, layers, refs)) is not None:
            return known
        with self._content.holding(layer.digest for layer in layers):
            await self._content.put(config)
            described = await asyncio.to_thread(lambda: tuple(self._descriptor(layer) for layer in layers))
            return await self.add(write_manifest(config, described), refs, None)

    async def pack(self, upper: Path, clamp: float | None) -> Layer:
        """The layer ``upper`` holds; the directory becomes its tree."""
        keeper = self._keeper
        await keeper.room.make()
        into = await asyncio.to_thread(keeper.disk.temp_file)
        try:
            digest, diff_id, size = await asyncio.to_thread(keeper.disk.pack, upper, into, clamp)
            keeper.fresh.note((digest, diff_id))
            # The blob first: should the disk not take it, the directory is still there.
            await asyncio.to_thread(keeper.disk.adopt, into, digest)
            async with keeper.flights.alone(f"unpack {diff_id}"):
                await asyncio.to_thread(keeper.disk.adopt_tree, upper, diff_id)
        finally:
            into.unlink(missing_ok=True)
        async with keeper.change:
            await keeper.save(keeper.catalog.seen(digest, diff_id))
        return Layer(digest, diff_id, size, layer_descriptor(digest, size, "gzip").media_type)

    def _known(self, config: bytes, layers: tuple[Layer, ...], refs: tuple[str, ...]) -> ImageRow | None:
        """That image, if it is here under these names already: a build that changed nothing."""
        if not all(layer.media_type for layer in layers):
            return None
        described = tuple(Descriptor(layer.media_type, layer.digest, layer.size) for layer in layers)
        catalog = self._keeper.catalog
        digest = sha256(write_manifest(config, described))
        has_names = all(catalog.refs.get(kept_name(ref)) == digest for ref in refs)
        return catalog.images.get(digest) if has_names else None

    def _row(self, raw: bytes, manifest: Manifest) -> ImageRow:
        blobs = self._keeper.disk.blobs
        if manifest.config.size > MAX_CONFIG:
            raise Invalid(f"an image configuration of {manifest.config.size} bytes is refused")
        for blob in manifest.blobs():
            if not blobs.has(blob.digest):
                raise Invalid(f"the image is incomplete: blob {blob.digest} is not here")
            if blobs.size(blob.digest) != blob.size:
                raise Invalid(
                    f"blob {blob.digest} has {blobs.size(blob.digest)} bytes, but the image's manifest "
                    f"says {blob.size}"
                )
        return row_for(raw, blobs.read(manifest.config.digest))

    async def _verify(self, row: ImageRow) -> None:
        known = self._keeper.catalog.pairs()
        if any(pair not in known for pair in zip(row.layers, row.diff_ids, strict=True)):
            await self._trees.unpack(row.layers, row.diff_ids, known)

    def _descriptor(self, layer: Layer) -> Descriptor:
        if layer.media_type:
            return Descriptor(layer.media_type, layer.digest, layer.size)
        with disk_errors(self._content.root), self._content.path(layer.digest).open("rb") as file:
            return layer_descriptor(layer.digest, layer.size, compression_of(file.read(6)))
