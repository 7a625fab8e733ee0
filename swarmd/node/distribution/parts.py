"""An image by its digest: the manifest that fits this machine, and everything below a digest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

import msgspec

from swarmd.image.core.manifest import MAX_MANIFEST, read_index
from swarmd.image.port import Content, Progress
from swarmd.model.errors import Invalid, NotFound
from swarmd.node.distribution.copying import ASKED
from swarmd.node.distribution.core.choosing import Provider
from swarmd.node.distribution.core.closure import referred

DEPTH = 4
"""Indexes within indexes; nobody makes more than two."""


class Ways(Protocol):
    """Has blobs here; raises NotFound, Unavailable, Invalid."""

    async def ensure_blob(
        self,
        digest: str,
        *,
        first: Iterable[Provider] = (),
        progress: Progress = ...,
        patience: int = ...,
    ) -> None: ...

    async def ensure_blobs(
        self, digests: Iterable[str], *, first: Iterable[Provider] = (), progress: Progress = ...
    ) -> None: ...


class Found(msgspec.Struct, frozen=True):
    """The bytes of a manifest, and of the index it was chosen from, if it was."""

    manifest: bytes
    index: bytes | None = None


async def manifest_for(
    ways: Ways, content: Content, digest: str, arch: str, *, first: Iterable[Provider] = ()
) -> Found:
    """The manifest that ``digest`` means on linux/``arch``.  Raises NotFound when there is none."""
    raw = await document(ways, content, digest, first=first)
    index: bytes | None = None
    for _ in range(DEPTH):
        if not referred(raw).manifests:
            return Found(raw, index)
        index = index or raw
        fitting = read_index(raw).choose(arch)
        if not fitting:
            raise NotFound(f"image {digest} has no manifest for linux/{arch}")
        raw = await document(ways, content, fitting[0].digest, first=first)
    raise Invalid(f"image {digest}: its indexes are nested more than {DEPTH} deep")


async def everything(
    ways: Ways, content: Content, digest: str, *, first: Iterable[Provider] = (), patience: int = ASKED
) -> tuple[str, ...]:
    """Have here what ``digest`` is and all it refers to; answers the digests.

    What an index lists and nobody has is left out.  Raises NotFound, Unavailable, Invalid.
    """
    holders, waiting, had = list(first), [(digest, patience)], dict[str, None]()
    while waiting:
        current, tries = waiting.pop()
        if current in had:
            continue
        try:
            raw = await document(ways, content, current, first=holders, patience=tries)
        except NotFound:
            if current == digest:
                raise
            continue
        found = referred(raw)
        await ways.ensure_blobs(found.blobs, first=holders)
        had.update(dict.fromkeys((current, *found.blobs)))
        waiting += [(child, 1) for child in found.manifests]
    return tuple(had)


async def document(
    ways: Ways, content: Content, digest: str, *, first: Iterable[Provider] = (), patience: int = ASKED
) -> bytes:
    """A manifest or an index."""
    await ways.ensure_blob(digest, first=first, patience=patience)
    if content.size(digest) > MAX_MANIFEST:
        raise Invalid(f"an image manifest of {content.size(digest)} bytes is refused")
    return await asyncio.to_thread(content.path(digest).read_bytes)
