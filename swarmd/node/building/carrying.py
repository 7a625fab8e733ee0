"""The build cache on its way to another node: a tar of what operations came to, and the layers.

::

    cache.json              rows: key, layer, time, instruction
    blobs/sha256/<hex>      the layers, as they are stored
"""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO

import msgspec

from swarmd.image.build.cache import Cache, Outcome
from swarmd.image.port import Content, Layer
from swarmd.model.errors import Invalid, Unavailable

_INDEX = "cache.json"
_BLOBS = "blobs/sha256/"
_CHUNK = 1 << 20
_MOST_INDEX = 64 << 20


class _Row(msgspec.Struct, frozen=True):
    key: str
    created: float
    text: str = ""
    layer: Layer | None = None


async def export_cache(cache: Cache, content: Content, work: Path) -> AsyncIterator[bytes]:
    """The archive, in pieces; ``work`` is a directory for it."""
    path = work / "cache.tar"
    try:
        await asyncio.to_thread(_write, cache, content, path)
        with path.open("rb") as file:
            while data := await asyncio.to_thread(file.read, _CHUNK):
                yield data
    finally:
        path.unlink(missing_ok=True)


async def import_cache(
    cache: Cache, content: Content, work: Path, data: AsyncIterator[bytes], now: Callable[[], float]
) -> int:
    """Take over an archive; answers the rows that came.  Raises Invalid for what is none, or damaged.

    What a layer unpacks to is verified when it is used.
    """
    path = work / "import.tar"
    try:
        with path.open("wb") as file:
            async for piece in data:
                await asyncio.to_thread(file.write, piece)
        with path.open("rb") as file:
            rows = await _take(file, content)
    except OSError as error:
        raise Unavailable(f"the build cache cannot be written: {error}") from error
    except tarfile.TarError as error:
        raise Invalid(f"this is no build cache: {error}") from error
    finally:
        path.unlink(missing_ok=True)
    whole = [row for row in rows if row.layer is None or content.has(row.layer.digest)]
    for row in whole:
        outcome = Outcome(row.layer, row.created)
        await asyncio.to_thread(cache.put, row.key, outcome, row.text, now())
    return len(whole)


def _write(cache: Cache, content: Content, path: Path) -> None:
    rows = [_Row(row.key, row.outcome.created, row.text, row.outcome.layer) for row in cache.rows()]
    rows = [row for row in rows if row.layer is None or content.has(row.layer.digest)]
    with tarfile.open(path, "w") as archive:
        index = msgspec.json.encode(rows)
        info = tarfile.TarInfo(_INDEX)
        info.size = len(index)
        archive.addfile(info, io.BytesIO(index))
        for digest in sorted({row.layer.digest for row in rows if row.layer is not None}):
            info = tarfile.TarInfo(_BLOBS + digest.removeprefix("sha256:"))
            info.size = content.size(digest)
            with content.path(digest).open("rb") as file:
                archive.addfile(info, file)


async def _take(file: IO[bytes], content: Content) -> list[_Row]:
    rows: list[_Row] = []
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for info in archive:
            source = archive.extractfile(info)
            if source is None:
                continue
            if info.name == _INDEX and info.size <= _MOST_INDEX:
                rows = _rows(source.read())
            elif info.name.startswith(_BLOBS):
                await _blob(source, f"sha256:{info.name.removeprefix(_BLOBS)}", content)
    return rows


def _rows(raw: bytes) -> list[_Row]:
    try:
        return msgspec.json.decode(raw, type=list[_Row])
    except msgspec.DecodeError as error:
        raise Invalid(f"this is no build cache: {error}") from error


async def _blob(source: IO[bytes], digest: str, content: Content) -> None:
    if content.has(digest):
        return
    ingest = await content.ingest()
    try:
        while data := await asyncio.to_thread(source.read, _CHUNK):
            await ingest.write(data)
    except BaseException:
        await ingest.cancel()
        raise
    await ingest.commit(digest)
