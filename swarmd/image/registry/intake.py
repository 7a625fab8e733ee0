"""Uploads under way on this node: begun, gone on with, finished, given up, forgotten.

::

    begin ──► append ... append ──► finish ──► a stored blob
                  └── cut off: what arrived stays, and the next piece goes on there

Nothing is on disk before the first byte, and nobody sees anything before :meth:`Uploads.finish`.  One that
has bytes is gone on with after a restart, too: the journal knows where they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import msgspec

from swarmd.image.port import Content, Ingest
from swarmd.image.registry.core.refusals import Refusal
from swarmd.image.registry.journal import Begun, Journal
from swarmd.image.streams import DiskFull
from swarmd.kit.clock import Clock
from swarmd.kit.ids import NewId
from swarmd.model.errors import Invalid, NotFound


class UploadLimits(msgspec.Struct, frozen=True):
    """``open``: uploads at once; ``idle``: seconds after which one is forgotten; ``blob``: bytes of one."""

    open: int = 1000
    idle: float = 3600.0
    blob: int = 64 << 30


class Upload:
    """One upload; ``offset`` bytes of it are here.

    ``kept``: the unfinished blob that an earlier process left of it and that was not looked at yet.
    """

    def __init__(self, key: str, repository: str, algorithm: str, touched: float) -> None:
        self.key = key
        self.repository = repository
        self.algorithm = algorithm
        self.touched = touched
        self.ingest: Ingest | None = None
        self.kept = ""
        self.is_busy = False

    @property
    def offset(self) -> int:
        return self.ingest.offset if self.ingest is not None else 0


class Uploads:
    """All of them, found again by key; with a ``journal`` that is kept, by the next process too."""

    def __init__(
        self,
        content: Content,
        clock: Clock,
        new_id: NewId,
        limits: UploadLimits | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._content = content
        self._clock = clock
        self._new_id = new_id
        self._limits = limits or UploadLimits()
        self._journal = journal or Journal()
        self._open: dict[str, Upload] = {}
        for key, begun in self._journal.uploads().items():
            self._open[key] = Upload(key, begun.repository, begun.algorithm, clock.monotonic())
            self._open[key].kept = begun.ingest

    def begin(self, repository: str, algorithm: str = "sha256") -> Upload:
        """A new one.  Raises :class:`Refusal` (429) when too many are open, all with content."""
        if len(self._open) >= self._limits.open:
            self._make_room()
        upload = Upload(self._new_id(), repository, algorithm, self._clock.monotonic())
        self._open[upload.key] = upload
        return upload

    async def find(self, repository: str, key: str) -> Upload:
        """Raises :class:`Refusal` (404) for one that is not open, or another repository's."""
        upload = self._open.get(key)
        if upload is None or upload.repository != repository or not await self._recalled(upload):
            raise Refusal("BLOB_UPLOAD_UNKNOWN", "there is no such upload: begin again with POST")
        return upload

    async def _recalled(self, upload: Upload) -> bool:
        """Whether what an earlier process left of it is still here; its digest is taken so far."""
        if upload.kept:
            try:
                upload.ingest = await self._content.ingest(upload.kept)
            except NotFound:
                self._forget(upload)
                return False
            upload.kept = ""
        return True

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
                begun = Begun(upload.repository, upload.algorithm, upload.ingest.key)
                self._journal.begun(upload.key, begun)
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
            self._forget(upload)
            raise Refusal("DIGEST_INVALID", str(error)) from error
        self._forget(upload)
        return size

    async def cancel(self, upload: Upload) -> None:
        """Forget it."""
        await self._recalled(upload)
        self._forget(upload)
        ingest, upload.ingest = upload.ingest, None
        if ingest is not None:
            await ingest.cancel()

    async def expire(self) -> None:
        """Forget those at which nobody worked for an hour."""
        since = self._clock.monotonic() - self._limits.idle
        for upload in [each for each in self._open.values() if each.touched < since and not each.is_busy]:
            await self.cancel(upload)

    async def close(self) -> None:
        """Forget all that the next process cannot go on with."""
        for upload in list(self._open.values()):
            if not self._journal.is_kept or not (upload.kept or upload.ingest):
                await self.cancel(upload)

    def _forget(self, upload: Upload) -> None:
        self._open.pop(upload.key, None)
        self._journal.ended(upload.key)

    def _make_room(self) -> None:
        """Whoever only begins uploads takes nobody's place: of the empty ones the oldest goes first."""
        empty = [each for each in self._open.values() if not (each.ingest or each.kept or each.is_busy)]
        if not empty:
            raise Refusal("TOOMANYREQUESTS", f"{len(self._open)} uploads are open: finish or cancel some")
        del self._open[min(empty, key=lambda each: each.touched).key]
