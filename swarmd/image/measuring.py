"""What the images of a node take on its disk: blobs as they came, and the trees that were made of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from pathlib import Path

from swarmd.image.core.catalog import ImageInfo
from swarmd.image.core.config import read_config
from swarmd.image.core.manifest import read_manifest
from swarmd.image.core.usage import Usage, account
from swarmd.image.store import ImageStore
from swarmd.kit.trees import disk_use
from swarmd.model.errors import NotFound


class Measure:
    """Remembers what trees take: they do not change."""

    def __init__(self, images: ImageStore) -> None:
        self._images = images
        self._trees: dict[Path, int] = {}

    async def usage(self, used: Collection[str]) -> Usage:
        """By manifest digest.  ``used``: manifest digests of images that containers have."""
        parts = {}
        for info in self._images.list():
            with contextlib.suppress(NotFound):  # removed meanwhile
                parts[info.digest] = await self._parts(info)
        return account(parts, used)

    async def _parts(self, info: ImageInfo) -> dict[str, int]:
        raw = self._images.manifest(info.digest)
        manifest = read_manifest(raw)
        found = {info.digest: len(raw), **{blob.digest: blob.size for blob in manifest.blobs()}}
        document = await asyncio.to_thread(self._images.blob_path(info.id).read_bytes)
        diff_ids = read_config(document).diff_ids
        for count in range(1, len(diff_ids) + 1):
            with contextlib.suppress(NotFound):  # not unpacked yet
                tree = self._images.tree(diff_ids[:count])[0]
                found[str(tree)] = await self._size(tree)
        return found

    async def _size(self, tree: Path) -> int:
        if tree not in self._trees:
            with contextlib.suppress(FileNotFoundError):
                self._trees[tree] = await asyncio.to_thread(disk_use, tree)
        return self._trees.get(tree, 0)
