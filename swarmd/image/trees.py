"""Layers unpacked once, for all images and containers.  Asyncio; the work is done in threads."""

from __future__ import annotations

import asyncio
from pathlib import Path

from swarmd.image.core.catalog import tree_names
from swarmd.image.keeper import Keeper
from swarmd.model.errors import NotFound

Pairs = frozenset[tuple[str, str]]

_UNPACKS = 2


class Trees:
    """The unpacked layers of the store of ``keeper``."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._unpacks = asyncio.Semaphore(_UNPACKS)

    async def unpack(self, layers: tuple[str, ...], diff_ids: tuple[str, ...], known: Pairs) -> None:
        """Have the trees of a chain of blobs, bottom first.

        Both digests of each blob are verified on the way; those of a blob whose tree is there already
        unless the pair is ``known``.  The caller pins them.  Raises :class:`Invalid` for a layer that is
        damaged, forged or hostile.
        """
        trees: list[Path] = []
        for digest, diff_id, names in zip(layers, diff_ids, tree_names(diff_ids), strict=True):
            lowers = tuple(reversed(trees))
            trees.append(await self._tree(digest, diff_id, names, lowers, (digest, diff_id) in known))

    def find(self, diff_ids: tuple[str, ...]) -> tuple[Path, ...]:
        """The trees of a chain, topmost first, as far as any shows.  Raises NotFound."""
        found: list[Path] = []
        for diff_id, names in reversed(tuple(zip(diff_ids, tree_names(diff_ids), strict=True))):
            tree = self._keeper.disk.tree(names)
            if tree is None:
                raise NotFound(f"layer {diff_id} is not unpacked")
            found.append(tree)
            if self._keeper.disk.hides_all(tree):
                break
        return tuple(found)

    async def _tree(
        self, digest: str, diff_id: str, names: tuple[str, str], lowers: tuple[Path, ...], known: bool
    ) -> Path:
        disk = self._keeper.disk
        async with self._keeper.flights.alone(f"unpack {diff_id}"):
            tree = disk.tree(names)
            if tree is not None and known:
                return tree
            async with self._unpacks:
                if tree is not None:
                    await asyncio.to_thread(disk.check_stored, digest, diff_id)
                    return tree
                return await asyncio.to_thread(disk.unpack, digest, diff_id, names, lowers)
