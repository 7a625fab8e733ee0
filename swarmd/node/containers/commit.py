"""A container of this node → an image of this node.

::

    (processes stand still) ──► its changes are copied ──► (they go on) ──► packed as a layer
        ──► the image below, that layer, and a configuration of what the container is run with
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from swarmd.image.core.catalog import ImageInfo, tag_name
from swarmd.image.core.changes import apply_changes
from swarmd.image.core.config import ConfigDocument, History, read_config, write_config
from swarmd.image.core.manifest import read_manifest
from swarmd.image.port import Layer
from swarmd.image.store import ImageStore
from swarmd.image.streams import disk_errors
from swarmd.kit.clock import Clock
from swarmd.kit.trees import remove_tree
from swarmd.model.errors import NotFound, Refused, SwarmError
from swarmd.model.spec import ContainerSpec
from swarmd.node.containers.core.committed import command_line, committed, told
from swarmd.node.runtime.archive import Archives
from swarmd.node.runtime.port import Runtime

_STANDS_STILL = "stands-still"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a commit.  ``image``: a name, empty for none; ``changes``: Dockerfile instructions."""

    image: str = ""
    author: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()
    pause: bool = True


Asked = Callable[[str], tuple[str, ContainerSpec] | None]
"""By container id: the image it was made of (a reference or digest), and how it was asked for."""


class Committer:
    """``changed`` is told when there is a new image."""

    def __init__(
        self,
        runtime: Runtime,
        archives: Archives,
        images: ImageStore,
        clock: Clock,
        *,
        work: Path,
        asked: Asked,
        changed: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self._archives = archives
        self._images = images
        self._clock = clock
        self._work = work
        self._asked = asked
        self._changed = changed

    async def open(self) -> None:
        """After a crash: what stood still for a copy goes on, and what is half made is removed."""
        for container_id in await asyncio.to_thread(self._stopped):
            with contextlib.suppress(SwarmError):
                await self._runtime.resume(container_id)
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(remove_tree, self._work)

    def _stopped(self) -> list[str]:
        return [note.read_text() for note in self._work.glob(f"*/{_STANDS_STILL}")]

    async def commit(self, container_id: str, wanted: Wanted) -> str:
        """The id of the new image.

        Raises NotFound when the container's image is not here any more, Refused when it cannot be told from
        another of the same name, Invalid for what is wanted, Unavailable.
        """
        refs = (tag_name(wanted.image),) if wanted.image else ()
        base, spec = self._origin(container_id)
        lowers = await self._below(container_id, base)
        document = read_config(await asyncio.to_thread(self._images.blob_path(base.id).read_bytes))
        config = self._runtime.config(container_id)
        if config is None:
            raise NotFound(f"No such container: {container_id}")
        run = committed(document.run, spec, env=config.env, labels=config.labels)
        run = apply_changes(run, wanted.changes)
        layers = self._layers(base.digest, document)
        with self._images.content.holding((base.digest, base.id, *(layer.digest for layer in layers))):
            async with self._copied(container_id, pause=wanted.pause) as copy:
                more = (await self._images.pack(copy, lowers),) if copy is not None else ()
            now = self._clock.now()
            step = History(now, command_line(document.run, spec), wanted.author, wanted.message, not more)
            history = (*told(document.history, len(layers), document.created), step)
            os_arch = document.platform.split("/")
            raw = write_config(
                run,
                diff_ids=tuple(layer.diff_id for layer in (*layers, *more)),
                created=now,
                arch=os_arch[1],
                variant="".join(os_arch[2:]),
                history=history,
                author=wanted.author,
            )
            made = await self._images.compose(raw, (*layers, *more), refs)
        self._changed()
        return made.id

    def _origin(self, container_id: str) -> tuple[ImageInfo, ContainerSpec]:
        asked = self._asked(container_id)
        if asked is None:
            raise NotFound(f"No such container: {container_id}")
        image, spec = asked
        try:
            return self._images.resolve(image), spec
        except NotFound as error:
            raise NotFound(
                f"{error}: what container {container_id} was made of is not on this node any more, "
                "load or pull it again"
            ) from error

    async def _below(self, container_id: str, base: ImageInfo) -> tuple[Path, ...]:
        """The layers that the container has below its own.  Raises Refused when they are not ``base``'s."""
        rootfs = await self._images.prepare(base.digest)
        self._images.known(base.digest)
        config = self._runtime.config(container_id)
        if config is not None and rootfs.layers != config.lower_dirs:
            raise Refused(
                f"the image of container {container_id} was changed since it was made: its name means "
                f"{base.id} now; start the container anew, and commit that"
            )
        return tuple(Path(layer) for layer in rootfs.layers)

    def _layers(self, digest: str, document: ConfigDocument) -> tuple[Layer, ...]:
        blobs = read_manifest(self._images.manifest(digest)).layers
        return tuple(
            Layer(blob.digest, diff_id, blob.size, blob.media_type)
            for blob, diff_id in zip(blobs, document.diff_ids, strict=True)
        )

    @contextlib.asynccontextmanager
    async def _copied(self, container_id: str, *, pause: bool) -> AsyncIterator[Path | None]:
        """A copy of what the container has changed, as long as it is needed; None when that is nothing."""
        place = await asyncio.to_thread(self._place)
        try:
            copy = place / "upper"
            with disk_errors(self._work):
                copy.mkdir()
            async with self._still(container_id, place / _STANDS_STILL, pause=pause):
                anything = await self._archives.copy_changes(container_id, copy)
            yield copy if anything else None
        finally:
            await asyncio.to_thread(remove_tree, place)

    def _place(self) -> Path:
        with disk_errors(self._work):
            self._work.mkdir(mode=0o700, parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(dir=self._work))

    @contextlib.asynccontextmanager
    async def _still(self, container_id: str, note: Path, *, pause: bool) -> AsyncIterator[None]:
        """The container's processes stand still; ``note`` says so to the next daemon."""
        state = self._runtime.inspect(container_id)
        if not pause or state is None or state.status != "running" or state.paused:
            yield
            return
        with disk_errors(self._work):
            note.write_text(container_id)
        await self._runtime.pause(container_id)
        try:
            yield
        finally:
            with contextlib.suppress(SwarmError):  # it was killed meanwhile
                await self._runtime.resume(container_id)
            note.unlink()
