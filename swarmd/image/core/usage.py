"""What images take on the disk, and what of it they share.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

from swarmd.image.core.catalog import Catalog, ImageRow, tree_names


class ImageUsage(msgspec.Struct, frozen=True):
    """Bytes an image takes: contents and unpacked layers.  ``size`` = ``shared`` + ``unique``."""

    digest: str
    shared: int
    unique: int

    @property
    def size(self) -> int:
        """All of it."""
        return self.shared + self.unique


class Usage(msgspec.Struct, frozen=True):
    """``total``: bytes of all images, what is shared counted once.

    ``other``: bytes of contents and layers that no image has (the registry's, a build cache's, new ones);
    ``reclaimable``: what of ``total`` would be free again without the images nobody uses.
    """

    images: tuple[ImageUsage, ...]
    total: int
    other: int
    reclaimable: int


def parts_of(row: ImageRow, sizes: Mapping[str, int]) -> frozenset[str]:
    """What an image is made of on the disk: digests of contents and names of trees."""
    trees = (name for pair in tree_names(row.diff_ids) for name in pair)
    return frozenset(part for part in (row.digest, row.id, *row.layers, *trees) if part in sizes)


def usage(catalog: Catalog, sizes: Mapping[str, int], unused: frozenset[str] = frozenset()) -> Usage:
    """``sizes``: bytes of everything there is, contents by digest and trees by name."""
    parts = {digest: parts_of(row, sizes) for digest, row in catalog.images.items()}
    owners = Counter(part for each in parts.values() for part in each)
    images = tuple(
        ImageUsage(
            digest,
            shared=sum(sizes[part] for part in each if owners[part] > 1),
            unique=sum(sizes[part] for part in each if owners[part] == 1),
        )
        for digest, each in parts.items()
    )
    total = sum(sizes[part] for part in owners)
    kept = {part for digest, each in parts.items() if digest not in unused for part in each}
    indexes = sum(sizes.get(index, 0) for index in catalog.indexes)
    reclaimable = total - sum(sizes[part] for part in kept)
    return Usage(images, total, sum(sizes.values()) - total - indexes, reclaimable)
