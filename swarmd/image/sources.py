"""Where an archive comes from: a file, something with ``read``, or pieces that arrive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

from swarmd.image.core.tar import CHUNK
from swarmd.image.streams import Readable, disk_errors
from swarmd.model.errors import Invalid

Source = Path | Readable | AsyncIterator[bytes]


@contextlib.asynccontextmanager
async def as_readable(source: Source, work: Path) -> AsyncIterator[Readable]:
    """``source`` as something a thread can read; pieces are gathered in ``work`` first."""
    if isinstance(source, AsyncIterator):
        await spool(source, work / "stream")
        source = work / "stream"
    if not isinstance(source, Path):
        yield source
        return
    with _opened(source) as file:
        yield file


async def spool(source: Source, path: Path) -> None:
    """Write all of ``source`` to the file ``path``; raises :class:`Unavailable` when the disk is full."""
    with disk_errors(path.parent), path.open("wb") as file:
        if isinstance(source, AsyncIterator):
            async for piece in source:
                await asyncio.to_thread(file.write, piece)
        elif isinstance(source, Path):
            with _opened(source) as opened:
                await asyncio.to_thread(_copy, opened, file)
        else:
            await asyncio.to_thread(_copy, source, file)


def _copy(source: Readable, file: BinaryIO) -> None:
    while piece := source.read(CHUNK):
        file.write(piece)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise Invalid(f"cannot read {path}: {error.strerror}") from error
    with file:
        yield file
