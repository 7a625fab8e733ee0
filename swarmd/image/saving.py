"""Images → one archive, piece by piece.  Asyncio; files are read in threads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator, Iterator

from swarmd.image.core.manifest import Manifest, read_manifest
from swarmd.image.core.saved import Chosen, blob_name, choose, documents
from swarmd.image.core.tar import CHUNK, Entry, Kind
from swarmd.image.core.tar_write import END, header, padding
from swarmd.image.disk import Disk
from swarmd.image.keeper import Keeper


async def save(keeper: Keeper, texts: tuple[str, ...]) -> AsyncGenerator[bytes, None]:
    """The archive of the images ``texts`` name, in pieces of about 1 MiB.

    What it is of is decided, and held, when the first piece is asked for.  Raises :class:`NotFound`.
    """
    chosen = choose(keeper.catalog, texts)
    blobs = sorted({blob for each in chosen for blob in (each.row.digest, each.row.id, *each.row.layers)})
    with keeper.pins.holding(blobs), contextlib.closing(_archive(keeper.disk, chosen, blobs)) as pieces:
        while piece := await asyncio.to_thread(_gathered, pieces):
            yield piece


def _gathered(pieces: Iterator[bytes]) -> bytes:
    held, count = list[bytes](), 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count >= CHUNK:
            break
    return b"".join(held)


def _archive(disk: Disk, chosen: tuple[Chosen, ...], blobs: list[str]) -> Generator[bytes, None, None]:
    manifests: dict[str, tuple[Manifest, int]] = {}
    for each in chosen:
        raw = disk.read_blob(each.row.digest)
        manifests[each.row.digest] = (read_manifest(raw), len(raw))
    for directory in (b"blobs", b"blobs/sha256"):
        yield header(Entry(directory, Kind.DIR, 0o755))
    for digest in blobs:
        size = disk.blob_size(digest)
        yield header(Entry(blob_name(digest).encode(), Kind.FILE, 0o644, size=size))
        with disk.blob(digest).open("rb", buffering=0) as file:
            while piece := file.read(CHUNK):
                yield piece
        yield padding(size)
    for name, data in sorted(documents(chosen, manifests).items()):
        yield header(Entry(name.encode(), Kind.FILE, 0o644, size=len(data))) + data + padding(len(data))
    yield END
