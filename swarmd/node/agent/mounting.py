"""What has to be on this node before a container's mounts can be: directories, images, volumes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from swarmd.image.store import Rootfs
from swarmd.model.errors import Invalid, Unavailable
from swarmd.model.spec import MountSpec
from swarmd.node.agent.core import mounts as rules
from swarmd.node.agent.core.mounts import Source
from swarmd.node.volume.volumes import Volumes, Wanted


class Images(Protocol):
    """Unpacked images; raises NotFound, Invalid, Unavailable."""

    async def prepare(self, ref_or_digest: str) -> Rootfs: ...


class Fetcher(Protocol):
    """Images of other nodes; raises NotFound, Unavailable."""

    async def ensure(self, ref: str) -> None: ...


class Mounting:
    """The mounts of containers, whoever asks for them."""

    def __init__(self, images: Images, fetcher: Fetcher, volumes: Volumes) -> None:
        self._images = images
        self._fetcher = fetcher
        self._volumes = volumes

    async def prepare(self, mounts: Sequence[MountSpec]) -> None:
        """Images are here and unpacked, directories exist or are made.

        Raises NotFound or Invalid when that never will be, Unavailable when it may be later.
        """
        for source in rules.bind_sources(mounts, create=False):
            if not await asyncio.to_thread(Path(source).exists):
                raise Invalid(
                    f'invalid mount config for type "bind": bind source path does not exist: {source}'
                )
        for source in rules.bind_sources(mounts, create=True):
            await asyncio.to_thread(_make, source)
        for ref in rules.images(mounts):
            await self._fetcher.ensure(ref)
            await self._images.prepare(ref)

    async def sources(self, owner: str, mounts: Sequence[MountSpec]) -> dict[str, Source]:
        """Where each mount's content is, by its target.  ``owner``'s volumes are held until :meth:`made`."""
        found: dict[str, Source] = {}
        for mount in mounts:
            if mount.kind == "bind":
                found[mount.target] = Source(mount.source)
            elif mount.kind == "volume":
                wanted = Wanted(name=mount.source, target=mount.target, labels=mount.labels)
                found[mount.target] = Source(await self._volumes.use(owner, wanted))
            elif mount.kind == "image":
                layers = (await self._images.prepare(mount.source)).layers
                found[mount.target] = Source(layers[0], layers[1:])
        return found

    def made(self, owner: str) -> None:
        """The container is there, and speaks for its volumes, or will never be."""
        self._volumes.release(owner)

    async def gone(self, owner: str) -> None:
        """The container is gone for good, and with it the volumes that were its own."""
        await self._volumes.remove_anonymous(owner)


def _make(source: str) -> None:
    try:
        Path(source).mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        pass  # a file is as good as a directory
    except OSError as error:
        raise Unavailable(f"bind source path {source} cannot be made: {error.strerror}") from error
