"""Blobs of a node, by digest: stored, and on their way in.  Asyncio; the disk is used in threads.

An unfinished blob is a file ``ingest/<algorithm>-<id>`` of the bytes that arrived; its digest is taken as
they come, and taken again over what is there when somebody goes on after a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from swarmd.image.blobs import ALGORITHMS, algorithm_of
from swarmd.image.core.tar import CHUNK
from swarmd.image.keeper import Keeper
from swarmd.image.port import Ingest
from swarmd.image.streams import DiskFull, disk_errors
from swarmd.kit.ids import NewId, new_id
from swarmd.model.errors import Invalid, NotFound

_KEY = re.compile(r"(sha256|sha512)-[a-z0-9]{1,64}")


class BlobContent:
    """:class:`swarmd.image.port.Content` on the disk of ``keeper``."""

    def __init__(self, keeper: Keeper, ids: NewId = new_id) -> None:
        self._keeper = keeper
        self._ids = ids
        self._open: dict[str, _Ingest] = {}

    def has(self, digest: str) -> bool:
        """Whether the blob is here."""
        return self._keeper.disk.blobs.has(digest)

    def path(self, digest: str) -> Path:
        """Its file, which is not to be changed.  Raises NotFound."""
        if not self.has(digest):
            raise NotFound(f"No such blob: {digest}")
        return self._keeper.disk.blobs.path(digest)

    def size(self, digest: str) -> int:
        """Bytes.  Raises NotFound."""
        return self.path(digest).stat().st_size

    async def put(self, data: bytes, digest: str = "") -> str:
        """Store a small blob; answers its digest.  Raises Invalid when it is not what ``digest`` says."""
        algorithm = algorithm_of(digest) if digest else "sha256"
        found = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        if digest and found != digest:
            raise Invalid(f"the content is {found}, not {digest} as was said")
        self._keeper.fresh.note((found,))
        await asyncio.to_thread(self._keeper.disk.write_blob, data, found)
        return found

    async def ingest(self, key: str = "", *, algorithm: str = "sha256") -> Ingest:
        """Begin a blob, or go on with the unfinished one of that key.  Raises NotFound for a key of none."""
        if not key:
            return await self._begin(algorithm)
        if key not in self._open:
            match = _KEY.fullmatch(key)
            path = self._keeper.disk.ingests / key
            if match is None or not path.is_file():
                raise NotFound(f"No such upload: {key[:80]}")
            found = _Ingest(self, path, match[1])
            await asyncio.to_thread(found.recall)
            self._open.setdefault(key, found)
        return self._open[key]

    def holding(self, digests: Iterable[str]) -> contextlib.AbstractContextManager[None]:
        """Whatever is collected meanwhile: not these, whether they are here already or not."""
        return self._keeper.pins.holding(digests)

    async def give_back(self, digests: Iterable[str]) -> None:
        """What nobody else needs of these is removed."""
        self._keeper.fresh.forget(digests)
        await self._keeper.sweep()

    def leave(self, digests: Iterable[str], *, after: float = 0.0) -> None:
        """Whoever brought these does no more with them, in ``after`` seconds at the latest: they are spared
        for the next try, but not in a prune."""
        self._keeper.fresh.leave(digests, after=after)

    async def _begin(self, algorithm: str) -> Ingest:
        if algorithm not in ALGORITHMS:
            raise Invalid(f"digests of {algorithm!r} are not supported: use {' or '.join(ALGORITHMS)}")
        await self._keeper.room.make()
        path = self._keeper.disk.ingests / f"{algorithm}-{self._ids()}"
        with disk_errors(self._keeper.disk.root):
            path.touch()
        self._open[path.name] = _Ingest(self, path, algorithm)
        return self._open[path.name]

    def coming(self, digest: str) -> None:
        """A blob will appear, which nobody needs yet: told by the loop, so that a collection that did not
        hear of it is over before it can find it."""
        self._keeper.fresh.note((digest,))

    def adopt(self, path: Path, digest: str) -> None:
        """Make the file the blob ``digest``, which it is and which is coming.  Blocking."""
        self._keeper.disk.adopt(path, digest)

    def forget(self, key: str) -> None:
        """An unfinished blob is gone."""
        self._open.pop(key, None)

    @property
    def root(self) -> Path:
        """Where all of it lies."""
        return self._keeper.disk.root


class _Ingest:
    def __init__(self, content: BlobContent, path: Path, algorithm: str) -> None:
        self._content = content
        self._path = path
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self._offset = 0
        self._alone = asyncio.Lock()

    @property
    def key(self) -> str:
        return self._path.name

    @property
    def offset(self) -> int:
        return self._offset

    async def write(self, data: bytes) -> None:
        async with self._alone:
            try:
                await asyncio.to_thread(self._append, data)
            except DiskFull:
                self._content.forget(self.key)
                await asyncio.to_thread(self._path.unlink, missing_ok=True)
                raise

    async def commit(self, digest: str = "") -> tuple[str, int]:
        async with self._alone:
            try:
                found = await asyncio.to_thread(self._told, digest)
                self._content.coming(found)
                await asyncio.to_thread(self._content.adopt, self._path, found)
                return found, self._offset
            finally:
                if not self._path.exists():
                    self._content.forget(self.key)

    async def cancel(self) -> None:
        async with self._alone:
            self._content.forget(self.key)
            await asyncio.to_thread(self._path.unlink, missing_ok=True)

    def recall(self) -> None:
        """Take the digest of what is there."""
        with self._path.open("rb") as file:
            while piece := file.read(CHUNK):
                self._hash.update(piece)
                self._offset += len(piece)

    def _append(self, data: bytes) -> None:
        with disk_errors(self._content.root):
            try:
                with self._path.open("r+b", buffering=0) as file:
                    file.seek(self._offset)
                    view = memoryview(data)
                    while view:
                        view = view[file.write(view) :]
            except FileNotFoundError:
                raise NotFound(f"No such upload: {self.key}") from None
        # Only what was written as a whole counts: the next write begins there again.
        self._hash.update(data)
        self._offset += len(data)

    def _told(self, digest: str) -> str:
        """Its digest, which is to be ``digest`` if that is given."""
        with disk_errors(self._content.root):
            if not self._path.exists():
                raise NotFound(f"No such upload: {self.key}")
            with self._path.open("r+b") as file:
                file.truncate(self._offset)
        found = f"{self._algorithm}:{self._hash.hexdigest()}"
        if digest and algorithm_of(digest) != self._algorithm:
            found = self._rehashed(algorithm_of(digest))
        if digest and found != digest:
            self._path.unlink()
            raise Invalid(f"the content is {found} ({self._offset} bytes), not {digest} as was said")
        return found

    def _rehashed(self, algorithm: str) -> str:
        with self._path.open("rb") as file:
            return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"
