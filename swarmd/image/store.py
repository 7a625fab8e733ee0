"""The images of one node: load, import, tag, remove, prepare for running, hand from node to node.

Asyncio; blocking work runs in threads.  What images there are is decided in
:mod:`swarmd.image.core.catalog`; this file keeps it on disk and in step.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

from swarmd.image import loading
from swarmd.image.core.catalog import (
    Catalog,
    ImageInfo,
    ImageRow,
    InUse,
    Removal,
    kept_name,
    plan_prune,
    plan_removal,
    tag_name,
    tree_names,
)
from swarmd.image.core.changes import apply_changes
from swarmd.image.core.config import ImageConfig, read_config
from swarmd.image.core.manifest import Manifest, read_manifest, sha256
from swarmd.image.core.rules import Limits
from swarmd.image.disk import Disk
from swarmd.image.flights import Flights, Pins
from swarmd.image.sources import Source, as_readable, spool
from swarmd.image.transfer import FetchBlob, FetchManifest, Receiver
from swarmd.kit.clock import Clock
from swarmd.model import image_ref
from swarmd.model.errors import Invalid, NotFound

_UNPACKS = 2
_GRACE = 600.0  # seconds for which a prepared image is spared, until its container is known


class Rootfs(msgspec.Struct, frozen=True):
    """What a container's root is made of.  ``layers``: overlay lower directories, topmost first."""

    digest: str
    id: str
    layers: tuple[str, ...]
    config: ImageConfig


class GcReport(msgspec.Struct, frozen=True):
    """What a collection removed, and the bytes of blobs it freed."""

    removals: tuple[Removal, ...]
    reclaimed: int


class ImageStore:
    """The store in ``root``.  :meth:`open` it before anything else.

    ``in_use`` arguments are functions from a manifest digest to the names of containers using it; register
    a container there before :meth:`prepare` is asked for its image.
    """

    def __init__(self, root: Path, clock: Clock, limits: Limits | None = None) -> None:
        self._disk = Disk(root, limits or Limits())
        self._clock = clock
        self._catalog = Catalog()
        self._change = asyncio.Lock()
        self._flights = Flights()
        self._pins = Pins()
        self._receiver = Receiver(self._disk, clock, self._flights)
        self._unpacks = asyncio.Semaphore(_UNPACKS)
        self._prepared: dict[str, float] = {}
        self.warnings: tuple[str, ...] = ()

    async def open(self) -> None:
        """Recover: remove leftovers, drop images that lost a blob (told in ``warnings``)."""
        self._catalog, self.warnings = await asyncio.to_thread(self._disk.open)

    # looking

    def list(self) -> list[ImageInfo]:
        """All images, newest first."""
        infos = [self._catalog.info(row) for row in self._catalog.images.values()]
        return sorted(infos, key=lambda info: (-info.created, info.refs, info.digest))

    def resolve(self, ref_or_id: str) -> ImageInfo:
        """By ``name[:tag][@digest]``, manifest digest, id or the beginning of an id.

        Raises :class:`NotFound` (``No such image: nginx:1.12``).
        """
        return self._catalog.info(self._catalog.find(ref_or_id))

    def config(self, ref_or_id: str) -> ImageConfig:
        """How the image wants to be run."""
        return read_config(self._disk.read_blob(self._catalog.find(ref_or_id).id)).run

    # putting in

    async def load(self, source: Source) -> tuple[str, ...]:
        """Take in a ``docker save`` archive or an OCI layout, plain or compressed.

        Answers the references it brought, or the id of an image without one.  All or nothing.
        """
        async with self._work() as work, as_readable(source, work) as readable:
            staged = await asyncio.to_thread(loading.stage_archive, self._disk, readable, work)
            await self._take_in(staged)
        return tuple(name for image in staged for name in (image.refs or (image.row.id,)))

    async def import_rootfs(self, source: Source, ref: str, changes: tuple[str, ...] = ()) -> str:
        """Make an image of a root file system's tar; answers its id.

        ``changes`` are Dockerfile instructions (``CMD ["/bin/app"]``); ``ref`` may be empty.
        """
        refs = (tag_name(ref),) if ref else ()
        run = apply_changes(ImageConfig(), changes)
        async with self._work() as work:
            path = work / "rootfs"
            await spool(source, path)
            now = self._clock.now()
            staged = await asyncio.to_thread(loading.stage_rootfs, self._disk, path, refs, run, now, work)
            await self._take_in((staged,))
        return staged.row.id

    async def receive(
        self, ref: str, expected_digest: str | None, fetch_manifest: FetchManifest, fetch_blob: FetchBlob
    ) -> ImageInfo:
        """Fetch an image from another node under the name ``ref``.

        Verifies manifest, sizes, digests and diffIDs; resumes broken streams; several calls for one image
        share the work; a failed one leaves nothing.  Raises :class:`Invalid` for wrong content.
        See :func:`swarmd.image.transfer.download` for what ``fetch_blob`` must do.
        """
        name = kept_name(ref)
        expected = expected_digest or image_ref.parse(ref).digest
        if expected in self._catalog.images:
            return await self._name(self._catalog.images[expected], name)
        raw = await fetch_manifest()
        digest = sha256(raw)
        if expected and digest != expected:
            raise Invalid(f"image {ref} is not what was asked for: its manifest is {digest}, not {expected}")
        manifest = read_manifest(raw)
        async with self._flights.alone(digest):
            if digest not in self._catalog.images:
                await self._fetch(raw, manifest, name, fetch_blob)
            return await self._name(self._catalog.images[digest], name)

    # names and removal

    async def tag(self, source: str, ref: str) -> None:
        """Give an image another name."""
        name = tag_name(ref)
        async with self._change:
            await self._save(self._catalog.add(self._catalog.find(source), (name,)))

    async def remove(self, ref_or_id: str, *, in_use: InUse, force: bool = False) -> tuple[Removal, ...]:
        """Remove a name, and the image with its last one.  Raises :class:`Conflict`, NotFound."""
        async with self._change:
            catalog, removals = plan_removal(self._catalog, ref_or_id, force=force, in_use=in_use)
            await self._save(catalog)
        await self._sweep()
        return removals

    async def gc(self, in_use: InUse, *, untagged: bool = False, everything: bool = False) -> GcReport:
        """Free what no image needs; first remove unused images: the ``untagged``, or ``everything``.

        Images prepared in the last ten minutes count as used.
        """
        removals: tuple[Removal, ...] = ()
        if untagged or everything:
            async with self._change:
                catalog, removals = plan_prune(
                    self._catalog, everything=everything, in_use=lambda digest: self._users(digest, in_use)
                )
                await self._save(catalog)
        return GcReport(removals, await self._sweep())

    # running

    async def prepare(self, ref_or_digest: str) -> Rootfs:
        """Unpack what is not unpacked yet; answers the layers and how the image wants to be run.

        Raises :class:`NotFound`, :class:`Invalid` for a hostile layer, :class:`Unavailable` for a full disk.
        """
        row = self._catalog.find(ref_or_digest)
        names = tree_names(row.diff_ids)
        self._prepared[row.digest] = self._clock.monotonic()
        with self._pins.holding(
            (*row.layers, row.id, row.digest, *(each for pair in names for each in pair))
        ):
            trees: list[Path] = []
            for digest, diff_id, pair in zip(row.layers, row.diff_ids, names, strict=True):
                trees.append(await self._tree(digest, diff_id, pair, tuple(reversed(trees))))
            config = await asyncio.to_thread(self._disk.read_blob, row.id)
        layers: list[str] = []
        for tree in reversed(trees):
            layers.append(str(tree))
            if self._disk.hides_all(tree):
                break
        return Rootfs(row.digest, row.id, tuple(layers), read_config(config).run)

    # handing on

    def manifest(self, ref_or_digest: str) -> bytes:
        """The exact bytes of an image's manifest."""
        return self._disk.read_blob(self._catalog.find(ref_or_digest).digest)

    def blob_path(self, digest: str) -> Path:
        """The file of a blob some image here has; raises :class:`NotFound` for any other."""
        if digest not in self._catalog.blobs():
            raise NotFound(f"No such blob: {digest}")
        return self._disk.blob(digest)

    def blob_size(self, digest: str) -> int:
        """Bytes of a blob some image here has; raises :class:`NotFound` for any other."""
        self.blob_path(digest)
        return self._disk.blob_size(digest)

    # inside

    async def _tree(
        self, digest: str, diff_id: str, names: tuple[str, str], lowers: tuple[Path, ...]
    ) -> Path:
        async with self._flights.alone(f"unpack {diff_id}"):
            tree = self._disk.tree(names)
            if tree is not None:
                return tree
            async with self._unpacks:
                return await asyncio.to_thread(self._disk.unpack, digest, diff_id, names, lowers)

    async def _fetch(self, raw: bytes, manifest: Manifest, name: str, fetch_blob: FetchBlob) -> None:
        blobs = (blob.digest for blob in manifest.blobs())
        try:
            with self._pins.holding((sha256(raw), *blobs)):
                row = await self._receiver.image(raw, manifest, self._catalog.pairs(), fetch_blob)
                await self._name(row, name)
        except BaseException:
            await self._sweep()
            raise

    async def _take_in(self, staged: tuple[loading.Staged, ...]) -> None:
        names = [name for image in staged for name in (image.row.digest, *image.files)]
        try:
            with self._pins.holding(names):
                await asyncio.to_thread(loading.adopt, self._disk, staged)
                async with self._change:
                    catalog = self._catalog
                    for image in staged:
                        catalog = catalog.add(image.row, image.refs)
                    await self._save(catalog)
        except BaseException:
            await self._sweep()
            raise

    async def _name(self, row: ImageRow, name: str) -> ImageInfo:
        async with self._change:
            if row.digest not in self._catalog.images or self._catalog.refs.get(name) != row.digest:
                await self._save(self._catalog.add(row, (name,)))
        return self._catalog.info(row)

    async def _save(self, catalog: Catalog) -> None:
        await asyncio.to_thread(self._disk.save, catalog)
        self._catalog = catalog

    async def _sweep(self) -> int:
        """Remove what neither an image nor work under way needs; answers the bytes of blobs freed.

        Nothing is awaited between looking at the pins and moving the rest away.
        """
        pinned = self._pins.names()
        trash, freed = self._disk.bury(self._catalog.blobs() | pinned, self._catalog.trees() | pinned)
        await asyncio.to_thread(self._disk.remove, *trash)
        return freed

    def _users(self, digest: str, in_use: InUse) -> Sequence[str]:
        since = self._prepared.get(digest)
        if since is not None and self._clock.monotonic() - since < _GRACE:
            return ["(being started)", *in_use(digest)]
        return in_use(digest)

    @contextlib.asynccontextmanager
    async def _work(self) -> AsyncIterator[Path]:
        work = await asyncio.to_thread(self._disk.temp_dir)
        try:
            yield work
        finally:
            await asyncio.to_thread(self._disk.remove, work)
