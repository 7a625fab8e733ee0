"""An image from another node: asked for once however many want it, named when all of it is here.  Asyncio."""

from __future__ import annotations

from swarmd.image.core.catalog import ImageInfo, ImageRow, kept_name
from swarmd.image.core.manifest import Manifest, read_manifest, sha256
from swarmd.image.keeper import Keeper
from swarmd.image.transfer import FetchBlob, FetchManifest, Receiver
from swarmd.model import image_ref
from swarmd.model.errors import Invalid


class Receiving:
    """Fetches into the store of ``keeper``."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._receiver = Receiver(keeper.disk, keeper.clock, keeper.flights)

    async def receive(
        self, ref: str, expected_digest: str | None, fetch_manifest: FetchManifest, fetch_blob: FetchBlob
    ) -> ImageInfo:
        """See :meth:`swarmd.image.store.ImageStore.receive`."""
        keeper = self._keeper
        name = kept_name(ref)
        expected = expected_digest or image_ref.parse(ref).digest
        if expected in keeper.catalog.images:
            return await self._name(keeper.catalog.images[expected], name)
        raw = await fetch_manifest()
        digest = sha256(raw)
        if expected and digest != expected:
            raise Invalid(f"image {ref} is not what was asked for: its manifest is {digest}, not {expected}")
        manifest = read_manifest(raw)
        async with keeper.flights.alone(digest):
            if digest not in keeper.catalog.images:
                await self._fetch(raw, manifest, name, fetch_blob)
            return await self._name(keeper.catalog.images[digest], name)

    async def _fetch(self, raw: bytes, manifest: Manifest, name: str, fetch_blob: FetchBlob) -> None:
        await self._keeper.room.make()
        blobs = (blob.digest for blob in manifest.blobs())
        try:
            with self._keeper.pins.holding((sha256(raw), *blobs)):
                row = await self._receiver.image(raw, manifest, self._keeper.catalog.pairs(), fetch_blob)
                await self._name(row, name)
        except BaseException:
            await self._keeper.sweep()
            raise

    async def _name(self, row: ImageRow, name: str) -> ImageInfo:
        keeper = self._keeper
        async with keeper.change:
            if row.digest not in keeper.catalog.images or keeper.catalog.refs.get(name) != row.digest:
                await keeper.save(keeper.catalog.add(row, (name,)))
        return keeper.catalog.info(row)
