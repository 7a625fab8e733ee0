"""The images of one node: load, import, tag, remove, prepare for running, hand from node to node.

Asyncio; blocking work runs in threads.  What images there are is decided in
:mod:`swarmd.image.core.catalog`; this file keeps it on disk and in step.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import msgspec

from swarmd.image import loading, saving
from swarmd.image.composing import Composing
from swarmd.image.content import BlobContent
from swarmd.image.core.catalog import ImageInfo, tag_name, tree_names
from swarmd.image.core.config import ImageConfig, linux_platform, read_config
from swarmd.image.core.removal import Among, InUse, Removal, plan_prune, plan_removal
from swarmd.image.core.rules import Limits
from swarmd.image.core.usage import Usage, usage
from swarmd.image.disk import Disk
from swarmd.image.keeper import Keeper, Roots
from swarmd.image.kernel import goarch
from swarmd.image.port import Content, Layer
from swarmd.image.receiving import Receiving
from swarmd.image.sources import Source, as_readable, spool
from swarmd.image.transfer import FetchBlob, FetchManifest
from swarmd.image.trees import Trees
from swarmd.kit.clock import Clock
from swarmd.model.errors import NotFound


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
    a container there before :meth:`prepare` is asked for its image.  ``reserve``: as ``room`` has it.
    """

    def __init__(
        self, root: Path, clock: Clock, limits: Limits | None = None, reserve: int | None = 0
    ) -> None:
        self._disk = Disk(root, limits or Limits())
        self._clock = clock
        self._keeper = Keeper(self._disk, clock, reserve)
        self._trees = Trees(self._keeper)
        self._receiving = Receiving(self._keeper)
        content = BlobContent(self._keeper)
        self._composing = Composing(self._keeper, content, self._trees)
        self.content: Content = content
        self.room = self._keeper.room
        self.warnings: tuple[str, ...] = ()

    async def open(self) -> None:
        """Recover: remove leftovers, drop images that lost a blob (told in ``warnings``)."""
        self.warnings = await self._keeper.open()

    async def close(self) -> None:
        """Let go of the files; nothing is asked of it afterwards."""
        await asyncio.to_thread(self._disk.close)

    def protect(self, roots: Roots) -> None:
        """Collect nothing that ``roots()`` names: blobs, manifests and indexes with all that they need.

        Asked at each collection; while it raises a SwarmError nothing is collected at all.
        """
        self._keeper.roots.append(roots)

    # looking

    def list(self) -> list[ImageInfo]:
        """All images, newest first."""
        infos = [self._keeper.catalog.info(row) for row in self._keeper.catalog.images.values()]
        return sorted(infos, key=lambda info: (-info.created, info.refs, info.digest))

    def resolve(self, ref_or_id: str) -> ImageInfo:
        """By ``name[:tag][@digest]``, manifest digest, id or the beginning of an id.

        Raises :class:`NotFound` (``No such image: nginx:1.12``).
        """
        return self._keeper.catalog.info(self._keeper.catalog.find(ref_or_id))

    def config(self, ref_or_id: str) -> ImageConfig:
        """How the image wants to be run."""
        return read_config(self._disk.read_blob(self._keeper.catalog.find(ref_or_id).id)).run

    # putting in

    async def load(self, source: Source, *, platform: str = "") -> tuple[str, ...]:
        """Take in a ``docker save`` archive or an OCI layout, plain or compressed.

        ``platform`` (``linux/arm64``): which of an image for several, empty: this machine's.
        Answers the references it brought, or the id of an image without one.  All or nothing.
        """
        arch = linux_platform(platform)[0] if platform else goarch()
        async with self._work() as work, as_readable(source, work) as readable:
            staged = await asyncio.to_thread(loading.stage_archive, self._disk, readable, work, arch)
            await self._take_in(staged)
        return tuple(name for image in staged for name in (image.refs or (image.row.id,)))

    async def import_rootfs(
        self, source: Source, ref: str, changes: tuple[str, ...] = (), *, message: str = "",
        platform: str = "",
    ) -> str:  # fmt: skip
        """Make an image of a root file system's tar; answers its id.  ``ref`` and ``message`` may be empty.

        ``changes`` are Dockerfile instructions (``CMD ["/bin/app"]``); ``platform`` empty: this machine's.
        """
        refs = (tag_name(ref),) if ref else ()
        config = loading.imported(changes, message, platform, self._clock.now())
        async with self._work() as work:
            path = work / "rootfs"
            await spool(source, path)
            staged = await asyncio.to_thread(loading.stage_rootfs, self._disk, path, refs, config, work)
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
        return await self._receiving.receive(ref, expected_digest, fetch_manifest, fetch_blob)

    async def add(
        self, manifest: bytes, refs: tuple[str, ...] = (), *, index: bytes | None = None
    ) -> ImageInfo:
        """Make an image of a manifest whose configuration and layers are all in ``content``.

        Hold them meanwhile.  Layers not seen before are verified, and unpacked on the way.  ``index``: the
        bytes of the index the manifest was chosen from; its digest then names the image too.  Raises
        :class:`Invalid` for what is missing, damaged, forged or hostile.
        """
        row = await self._composing.add(manifest, refs, index)
        return self._keeper.catalog.info(row)

    async def compose(
        self, config: bytes, layers: tuple[Layer, ...], refs: tuple[str, ...] = ()
    ) -> ImageInfo:
        """Make an image of a configuration and stored layers, bottom first; see :meth:`add`."""
        row = await self._composing.compose(config, layers, refs)
        return self._keeper.catalog.info(row)

    async def pack(self, upper: Path, lowers: tuple[Path, ...] = (), *, clamp: float | None = None) -> Layer:
        """Make a layer of the upper directory of an overlay on ``lowers``, which is no longer mounted.

        ``upper`` is consumed: it becomes the layer's tree, so it has to be on the store's file system.
        ``clamp``: the newest time of a file allowed, seconds since 1970.  Hold the answer's digest and
        diffID while it is not part of an image.  Raises :class:`Invalid`, Unavailable for a full disk.
        """
        return await self._composing.pack(upper, clamp)

    # names and removal

    async def tag(self, source: str, ref: str) -> None:
        """Give an image another name."""
        name = tag_name(ref)
        async with self._keeper.change:
            await self._keeper.save(self._keeper.catalog.add(self._keeper.catalog.find(source), (name,)))

    async def remove(self, ref_or_id: str, *, in_use: InUse, force: bool = False) -> tuple[Removal, ...]:
        """Remove a name, and the image with its last one.  Raises :class:`Conflict`, NotFound."""
        async with self._keeper.change:
            catalog, removals = plan_removal(self._keeper.catalog, ref_or_id, force=force, in_use=in_use)
            await self._keeper.save(catalog)
        await self._keeper.sweep()
        return removals

    async def gc(
        self, in_use: InUse, *, untagged: bool = False, everything: bool = False, among: Among = None
    ) -> GcReport:
        """Free what no image needs; first remove unused images: the ``untagged``, or ``everything``.

        ``among``: only these manifests; else also what was left.  Those prepared in ten minutes are in use.
        """
        removals: tuple[Removal, ...] = ()
        if untagged or everything:
            async with self._keeper.change:
                catalog, removals = plan_prune(
                    self._keeper.catalog,
                    everything=everything,
                    in_use=lambda digest: self._keeper.users(digest, in_use),
                    among=among,
                )
                await self._keeper.save(catalog)
        return GcReport(removals, await self._keeper.sweep(left=among is None))

    # running

    async def prepare(self, ref_or_digest: str) -> Rootfs:
        """Unpack what is not unpacked yet; answers the layers and how the image wants to be run.

        Raises :class:`NotFound`, :class:`Invalid` for a hostile layer, :class:`Unavailable` for a full disk.
        """
        row = self._keeper.catalog.find(ref_or_digest)
        self._keeper.being_started(row.digest)
        trees = (name for pair in tree_names(row.diff_ids) for name in pair)
        with self._keeper.pins.holding((*row.layers, row.id, row.digest, *trees)):
            await self._trees.unpack(row.layers, row.diff_ids, self._keeper.catalog.pairs())
            config = await asyncio.to_thread(self._disk.read_blob, row.id)
            layers = tuple(str(tree) for tree in self._trees.find(row.diff_ids))
        return Rootfs(row.digest, row.id, layers, read_config(config).run)

    def known(self, digest: str) -> None:
        """The container that an image was prepared for is there: the image goes when that does."""
        self._keeper.known(digest)

    def tree(self, diff_ids: tuple[str, ...]) -> tuple[Path, ...]:
        """The unpacked layers of a chain (diffIDs, bottom first), topmost first.

        Raises NotFound when one is not unpacked; :meth:`prepare` unpacks those of an image.
        """
        return self._trees.find(diff_ids)

    # handing on

    def manifest(self, ref_or_digest: str) -> bytes:
        """The exact bytes of an image's manifest."""
        return self._disk.read_blob(self._keeper.catalog.find(ref_or_digest).digest)

    def held(self) -> frozenset[str]:
        """Digests of all blobs that are here, of images or not."""
        return frozenset(self._disk.blobs)

    def blob_path(self, digest: str) -> Path:
        """The file of a blob some image here has; raises :class:`NotFound` for any other."""
        if digest not in self._keeper.catalog.blobs():
            raise NotFound(f"No such blob: {digest}")
        return self._disk.blob(digest)

    def blob_size(self, digest: str) -> int:
        """Bytes of a blob some image here has; raises :class:`NotFound` for any other."""
        self.blob_path(digest)
        return self._disk.blob_size(digest)

    def save(self, *images: str) -> AsyncGenerator[bytes, None]:
        """An archive of images in pieces: what ``docker load`` takes, and an OCI layout as well.

        Each is named by a tag, by a repository (all its tags) or by an id.  Close the generator when done.
        Raises :class:`NotFound` before the first piece.
        """
        return saving.save(self._keeper, images)

    async def usage(self, in_use: InUse) -> Usage:
        """Bytes on the disk, of each image and of all together."""
        catalog = self._keeper.catalog
        unused = frozenset(each for each in catalog.images if not self._keeper.users(each, in_use))
        return usage(catalog, await asyncio.to_thread(self._disk.sizes), unused)

    async def weigh(self) -> tuple[int, int]:
        """How many blobs there are, and their bytes."""
        return await asyncio.to_thread(self._disk.blobs.weigh)

    # inside

    async def _take_in(self, staged: tuple[loading.Staged, ...]) -> None:
        names = [name for image in staged for name in (image.row.digest, *image.files)]
        try:
            with self._keeper.pins.holding(names):
                await asyncio.to_thread(loading.adopt, self._disk, staged)
                async with self._keeper.change:
                    catalog = self._keeper.catalog
                    for image in staged:
                        catalog = catalog.add(image.row, image.refs)
                    await self._keeper.save(catalog)
        except BaseException:
            await self._keeper.sweep()
            raise

    @contextlib.asynccontextmanager
    async def _work(self) -> AsyncIterator[Path]:
        await self.room.make()
        work = await asyncio.to_thread(self._disk.temp_dir)
        try:
            yield work
        finally:
            await asyncio.to_thread(self._disk.remove, work)
