"""Blobs from another node: fetched, resumed, verified.  The transport is the caller's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from swarmd.image.core.catalog import ImageRow, row_for
from swarmd.image.core.config import MAX_CONFIG
from swarmd.image.core.manifest import Descriptor, Manifest, sha256
from swarmd.image.disk import Disk
from swarmd.image.flights import Flights
from swarmd.image.streams import disk_errors
from swarmd.kit.clock import Clock
from swarmd.model.errors import Invalid, Unavailable

FetchManifest = Callable[[], Awaitable[bytes]]
FetchBlob = Callable[[str, int], AsyncIterator[bytes]]

_TRIES = 5
_FIRST_DELAY = 0.1


class Receiver:
    """Fetches and verifies the blobs of images.  The caller pins their digests meanwhile."""

    def __init__(self, disk: Disk, clock: Clock, flights: Flights) -> None:
        self._disk = disk
        self._clock = clock
        self._flights = flights

    async def image(
        self, raw: bytes, manifest: Manifest, known: frozenset[tuple[str, str]], fetch: FetchBlob
    ) -> ImageRow:
        """Have every blob of the manifest ``raw``; the manifest itself is stored last.

        ``known`` are pairs of blob and diffID that need no second look.  Raises :class:`Invalid` for wrong
        content, :class:`Unavailable` for a transport that stays broken or a full disk.
        """
        if manifest.config.size > MAX_CONFIG:
            raise Invalid(f"an image configuration of {manifest.config.size} bytes is refused")
        await self._have(manifest.config, fetch)
        config = await asyncio.to_thread(self._disk.read_blob, manifest.config.digest)
        row = row_for(raw, config)
        for layer, diff_id in zip(manifest.layers, row.diff_ids, strict=True):
            checked = await self._have(layer, fetch, diff_id)
            if not checked and (layer.digest, diff_id) not in known:
                await asyncio.to_thread(self._check, self._disk.blob(layer.digest), layer, diff_id)
        await asyncio.to_thread(self._disk.write_blob, raw)
        return row

    async def _have(self, wanted: Descriptor, fetch: FetchBlob, diff_id: str = "") -> bool:
        """Fetch and verify a blob; False when it was there already."""
        async with self._flights.alone(wanted.digest):
            if self._disk.blob(wanted.digest).is_file():
                return False
            into = await asyncio.to_thread(self._disk.temp_file)
            try:
                await download(self._disk, self._clock, wanted, fetch, into)
                await asyncio.to_thread(self._check, into, wanted, diff_id)
                await asyncio.to_thread(self._disk.adopt, into, wanted.digest)
            finally:
                into.unlink(missing_ok=True)
            return True

    def _check(self, path: Path, wanted: Descriptor, diff_id: str) -> None:
        if diff_id:
            self._disk.check_layer(path, wanted.digest, wanted.size, diff_id)
        elif (found := sha256(path.read_bytes())) != wanted.digest:
            raise Invalid(f"blob {wanted.digest} is damaged: its content is {found}")


async def download(disk: Disk, clock: Clock, wanted: Descriptor, fetch: FetchBlob, into: Path) -> None:
    """Fetch one blob into the file ``into``, going on where a broken stream left off.

    ``fetch(digest, offset)`` yields the blob's bytes from ``offset``; a broken transport raises
    :class:`Unavailable` or OSError, or just ends early.  After five failures without a byte in between,
    raises :class:`Unavailable`.  A stream longer than the blob raises :class:`Invalid`.  The content is
    *not* verified here.
    """
    offset, failures, reason = 0, 0, "the stream ended early"
    while offset < wanted.size:
        before = offset
        try:
            offset = await _append(disk, wanted, fetch(wanted.digest, offset), offset, into)
            reason = "the stream ended early"
        except _Broken as broken:
            offset, reason = broken.offset, broken.reason
        failures = 0 if offset > before else failures + 1
        if failures >= _TRIES:
            raise Unavailable(
                f"cannot fetch blob {wanted.digest}: {reason} "
                f"({offset} of {wanted.size} bytes arrived, {_TRIES} tries)"
            )
        if failures:
            await clock.sleep(_FIRST_DELAY * 2**failures)


class _Broken(Exception):
    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


async def _append(
    disk: Disk, wanted: Descriptor, stream: AsyncIterator[bytes], offset: int, into: Path
) -> int:
    """Write what the stream gives; answers the offset it ended at.  Raises :class:`_Broken`."""
    try:
        while True:
            try:
                piece = await anext(stream)
            except StopAsyncIteration:
                return offset
            except (Unavailable, OSError) as error:
                raise _Broken(offset, str(error)) from error
            offset += len(piece)
            if offset > wanted.size:
                raise Invalid(f"blob {wanted.digest} is longer than the {wanted.size} bytes it should have")
            await asyncio.to_thread(_write, disk, into, piece)
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


def _write(disk: Disk, into: Path, piece: bytes) -> None:
    with disk_errors(disk.root), into.open("ab", buffering=0) as file:
        view = memoryview(piece)
        while view:
            view = view[file.write(view) :]
