"""Uploads under way on this node: begun, gone on with, finished, given up, forgotten.

::

    begin ──► append ... append ──► finish ──► a stored blob
                  └── cut off: what arrived stays, and the next piece goes on there

Nothing is on disk before the first byte, and nobody sees anything before :meth:`Uploads.finish`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import msgspec

from swarmd.image.port import Content, Ingest
from swarmd.image.registry.core.refusals import Refusal
from swarmd.image.streams import DiskFull
from swarmd.kit.clock import Clock
from swarmd.kit.ids import NewId
from swarmd.model.errors import Invalid


class UploadLimits(msgspec.Struct, frozen=True):
    """``open``: uploads at once; ``idle``: seconds after which one is forgotten; ``blob``: bytes of one."""

    open: int = 1000
    idle: float = 3600.0
    blob: int = 64 << 30


class Upload:
    """One upload; ``offset`` bytes of it are here."""

    def __init__(self, key: str, repository: str, algorithm: str, touched: float) -> None:
        self.key = key
        self.repository = repository
        self.algorithm = algorithm
        self.touched = touched
        self.ingest: Ingest | None = None
        self.is_busy = False

    @property
    def offset(self) -> int:
        return self.ingest.offset if self.ingest is not None else 0


class Uploads:
    """All of them, found again by key."""

    def __init__(
        self, content: Content, clock: Clock, new_id: NewId, limits: UploadLimits | None = None
    ) -> None:
        self._content = content
        self._clock = clock
        self._new_id = new_id
        self._limits = limits or UploadLimits()
        self._open: dict[str, Upload] = {}

    def begin(self, repository: str, algorithm: str = "sha256") -> Upload:
        """A new one.  Raises :class:`Refusal` (429) when too many are open, all with content."""
        if len(self._open) >= self._limits.open:
            self._make_room()
        upload = Upload(self._new_id(), repository, algorithm, self._clock.monotonic())
        self._open[upload.key] = upload
        return upload

    def find(self, repository: str, key: str) -> Upload:
        """Raises :class:`Refusal` (404) for one that is not open, or another repository's."""
        upload = self._open.get(key)
        if upload is None or upload.repository != repository:
            raise Refusal("BLOB_UPLOAD_UNKNOWN", "there is no such upload: begin again with POST")
        return upload

    @contextlib.contextmanager
    def alone(self, upload: Upload) -> Iterator[None]:
        """Work on the upload; raises :class:`Refusal` (409) while another request does."""
        if upload.is_busy:
            raise Refusal("BLOB_UPLOAD_INVALID", "another request is at work on this upload", status=409)
        upload.is_busy = True
        try:
            yield
        finally:
            upload.is_busy = False
            upload.touched = self._clock.monotonic()

    async def append(self, upload: Upload, pieces: AsyncIterator[bytes]) -> None:
        """Add to it.  What arrived before a failure stays.

        Raises :class:`Refusal` for a blob that grows beyond the limit, DiskFull: then the upload is gone.
        """
        async for piece in pieces:
            if not piece:
                continue
            if upload.offset + len(piece) > self._limits.blob:
                await self.cancel(upload)
                raise Refusal(
                    "SIZE_INVALID", f"a blob has at most {self._limits.blob} bytes here", status=413
                )
            if upload.ingest is None:
                upload.ingest = await self._content.ingest(algorithm=upload.algorithm)
            try:
                await upload.ingest.write(piece)
            except DiskFull:
                await self.cancel(upload)
                raise
            upload.touched = self._clock.monotonic()

    async def finish(self, upload: Upload, digest: str) -> int:
        """Store it as ``digest``, of whatever algorithm; answers its size.  Then it has ended.

        Raises :class:`Refusal` (400) when that is not its digest: it has ended, too.  Raises Unavailable for
        a full disk: it can be tried again.
        """
        if upload.ingest is None:
            upload.ingest = await self._content.ingest(algorithm=digest.partition(":")[0])
        try:
            _, size = await upload.ingest.commit(digest)
        except Invalid as error:
            self._open.pop(upload.key, None)
            raise Refusal("DIGEST_INVALID", str(error)) from error
        self._open.pop(upload.key, None)
        return size

    async def cancel(self, upload: Upload) -> None:
        """Forget it."""
        self._open.pop(upload.key, None)
        ingest, upload.ingest = upload.ingest, None
        if ingest is not None:
            await ingest.cancel()

    async def expire(self) -> None:
        """Forget those at which nobody worked for an hour."""
        since = self._clock.monotonic() - self._limits.idle
        for upload in [each for each in self._open.values() if each.touched < since and not each.is_busy]:
            await self.cancel(upload)

    async def close(self) -> None:
        """Forget all."""
        for upload in list(self._open.values()):
            await self.cancel(upload)

    def _make_room(self) -> None:
        """Whoever only begins uploads takes nobody's place: of the empty ones the oldest goes first."""
        empty = [each for each in self._open.values() if each.ingest is None and not each.is_busy]
        if not empty:
            raise Refusal("TOOMANYREQUESTS", f"{len(self._open)} uploads are open: finish or cancel some")
        del self._open[min(empty, key=lambda each: each.touched).key]
