"""The part of the disk that images leave free: a full one stops whatever else lives there, managers too.

something new is about to come ─► is there room? ─► free what nobody needs ─► is there now? ─► refuse in words
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from swarmd.image.streams import DiskFull
from swarmd.kit.clock import Clock
from swarmd.model.errors import SwarmError

RESERVE_BYTES = 512 << 20
_RESERVE_SHARE = 0.1
_AGAIN = 10.0
"""Seconds before it is tried once more to free something."""

Free = Callable[[], Awaitable[object]]
"""Lets go of something that can be made again."""


class Room:
    """What is left of the file system that holds ``root``.

    ``reserve``: bytes to leave free; None: 512 MiB or a tenth of the file system, whichever is less.
    ``frees``: tried in turn when there is less; ``finish``: blocks until what they removed is gone.
    """

    def __init__(
        self, root: Path, reserve: int | None, clock: Clock, finish: Callable[[], None] = lambda: None
    ) -> None:
        self._root = root
        self._reserve = reserve
        self._clock = clock
        self._finish = finish
        self._tried = -_AGAIN
        self._alone = asyncio.Lock()
        self.frees: list[Free] = []

    async def make(self) -> None:
        """Before something new is written.  Raises DiskFull when too little is free."""
        if not self._lack():
            return
        async with self._alone:
            await self._free()
        if lack := self._lack():
            raise DiskFull(lack)

    async def _free(self) -> None:
        now = self._clock.monotonic()
        if now - self._tried < _AGAIN:
            return
        self._tried = now
        for free in self.frees:
            if not self._lack():
                return
            # Who can let go of nothing, for want of room for a note of it, keeps nobody else from it.
            with contextlib.suppress(SwarmError, OSError):
                await free()
            await asyncio.to_thread(self._finish)

    def _lack(self) -> str:
        """Why nothing may be added; empty when there is room."""
        if self._reserve == 0:
            return ""
        seen = os.statvfs(self._root)
        free, reserve = seen.f_bavail * seen.f_frsize, self._reserve
        if reserve is None:
            reserve = min(RESERVE_BYTES, int(seen.f_blocks * seen.f_frsize * _RESERVE_SHARE))
        if free >= reserve:
            return ""
        return (
            f"no room for images: {self._root} has {free >> 20} MiB of free space left, and {reserve >> 20} "
            "MiB are kept free. Remove images (swarmctl image prune -a), containers that do not run (system "
            "prune) or build cache (builder prune), or enlarge the disk"
        )
