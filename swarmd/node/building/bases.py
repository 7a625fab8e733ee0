"""The images a build begins with, and the unpacked trees of any chain of layers.  Asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from swarmd.image.build.work import Begun, Chain
from swarmd.image.core.catalog import ImageInfo
from swarmd.image.core.config import ConfigDocument, ImageConfig, read_config, write_config
from swarmd.image.core.manifest import read_manifest
from swarmd.image.kernel import goarch
from swarmd.image.port import Layer, Progress
from swarmd.image.registry.core.auth import Credential
from swarmd.image.store import ImageStore
from swarmd.model.errors import NotFound

Logins = Mapping[str, Credential]
"""By host."""


class Bases(Protocol):
    """Where images come from that this node lacks, or has for another platform."""

    async def fetch(
        self, ref: str, platform: str, *, newest: bool, logins: Logins, progress: Progress
    ) -> ImageInfo:
        """``newest``: as its registry has it now.  Raises NotFound, Denied, Unavailable."""
        ...

    async def admit(self, ref: str, digest: str) -> None:
        """Raises Refused for an image that may not run, Unavailable when that cannot be found out now."""
        ...


class Resolved(msgspec.Struct, frozen=True):
    """An image with what a build needs to know of it."""

    info: ImageInfo
    document: ConfigDocument
    layers: tuple[Layer, ...]


Documents = dict[str, Resolved]
"""What images are made of, by the digest of the manifest: read once for many builds."""

_MOST_DOCUMENTS = 64


class Images:
    """The images of one build, each resolved once."""

    def __init__(
        self,
        store: ImageStore,
        bases: Bases,
        *,
        platform: str,
        pull: bool,
        logins: Logins,
        progress: Progress,
        documents: Documents | None = None,
    ) -> None:
        self._documents = {} if documents is None else documents
        self._store = store
        self._logins = logins
        self._progress = progress
        self._bases = bases
        self._platform = platform
        self._pull = pull
        self._found: dict[tuple[str, str], Resolved] = {}
        self._unpacking = asyncio.Lock()

    async def resolved(self, ref: str, platform: str = "") -> Resolved:
        """By name.  Raises NotFound, Refused, and what fetching fails with."""
        name = (ref, platform or self._platform)
        if name not in self._found:
            found = await self._here(ref, name[1]) or await self._fetched(ref, name[1])
            await self._bases.admit(ref, found.info.digest)
            self._found[name] = found
        return self._found[name]

    async def _here(self, ref: str, platform: str) -> Resolved | None:
        """One that this node holds, if that will do."""
        if self._pull:
            return None
        try:
            found = await self._resolved(self._store.resolve(ref))
        except NotFound:
            return None
        return found if _is_for(found.document.platform, platform) else None

    async def _fetched(self, ref: str, platform: str) -> Resolved:
        info = await self._bases.fetch(
            ref, platform, newest=self._pull, logins=self._logins, progress=self._progress
        )
        return await self._resolved(info)

    async def _resolved(self, info: ImageInfo) -> Resolved:
        found = self._documents.get(info.digest)
        if found is None:
            found = await asyncio.to_thread(self._read, info)
            if len(self._documents) >= _MOST_DOCUMENTS:
                self._documents.clear()
            self._documents[info.digest] = found
        return msgspec.structs.replace(found, info=info)

    async def begun(self, ref: str, platform: str) -> Begun:
        """What a stage begins with."""
        found = await self.resolved(ref, platform)
        return Begun(Chain(found.layers, found.document.created), found.info.digest)

    def digests(self) -> tuple[str, ...]:
        """Of the manifests of those resolved so far."""
        return tuple(one.info.digest for one in self._found.values())

    def document(self, digest: str) -> ConfigDocument | None:
        """The configuration of a resolved image."""
        return next((one.document for one in self._found.values() if one.info.digest == digest), None)

    async def lowers(self, chain: Chain) -> tuple[Path, ...]:
        """The trees of a chain, topmost first; what is not unpacked yet is."""
        diff_ids = tuple(layer.diff_id for layer in chain.layers)
        try:
            return self._store.tree(diff_ids)
        except NotFound:
            pass
        async with self._unpacking:
            for one in self._found.values():
                if diff_ids[: len(one.layers)] == tuple(layer.diff_id for layer in one.layers):
                    await self._store.prepare(one.info.digest)
            try:
                return self._store.tree(diff_ids)
            except NotFound:
                await self._unpack(chain, diff_ids)
        return self._store.tree(diff_ids)

    async def _unpack(self, chain: Chain, diff_ids: tuple[str, ...]) -> None:
        """Layers that came with a cache were never unpacked: an image without a name has them unpacked."""
        config = write_config(ImageConfig(), diff_ids=diff_ids, created=0.0, arch=goarch())
        info = await self._store.compose(config, chain.layers)
        await self._store.prepare(info.digest)
        if not info.refs:
            await self._store.remove(info.digest, in_use=lambda digest: (), force=True)

    def _read(self, info: ImageInfo) -> Resolved:
        manifest = read_manifest(self._store.manifest(info.digest))
        document = read_config(self._store.blob_path(info.id).read_bytes())
        layers = tuple(
            Layer(layer.digest, diff_id, layer.size, layer.media_type)
            for layer, diff_id in zip(manifest.layers, document.diff_ids, strict=True)
        )
        return Resolved(info, document, layers)


def _is_for(has: str, wanted: str) -> bool:
    """Whether an image of one platform (``os/architecture[/variant]``) will do for another."""
    return has.split("/")[:2] == wanted.split("/")[:2]
