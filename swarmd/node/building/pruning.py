"""What builds keep for those to come, let go of again: on a full disk as well.  Asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from swarmd.image.build.cache import Cache, Pruned
from swarmd.image.database import Spare
from swarmd.image.port import Content
from swarmd.image.streams import disk_errors
from swarmd.node.building.mounting import CacheMounts
from swarmd.node.building.spool import Spool

T = TypeVar("T")

_ANY = 1 << 62


class Pruning:
    """Of ``cache``, ``spool`` and ``mounts``.  ``spare``: room for the notes of it."""

    def __init__(
        self, cache: Cache, spool: Spool, mounts: CacheMounts, content: Content, spare: Spare
    ) -> None:
        self._cache = cache
        self._spool = spool
        self._mounts = mounts
        self._content = content
        self._spare = spare
        spare.keep()

    async def prune(self, *, before: float, keep: int, everything: bool) -> Pruned:
        """See :meth:`swarmd.node.building.builder.Builder.prune`.  Raises DiskFull."""
        forever = float("inf") if everything else before
        # First what needs no note of it.
        freed = await asyncio.to_thread(self._mounts.prune, forever)
        with disk_errors(self._spare.root):
            most = keep if keep >= 0 else _ANY
            freed += await self._noted(lambda: self._spool.prune(before=forever, keep=most))
            gone = await self._noted(
                lambda: self._cache.prune(before=before, keep=keep, everything=everything)
            )
        await self._content.give_back(gone.layers)
        await asyncio.to_thread(self._spare.keep)
        return Pruned(gone.keys, gone.freed + freed, gone.layers)

    async def _noted(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(self._spare.helping, work)
