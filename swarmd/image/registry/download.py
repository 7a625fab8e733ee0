"""One blob from a registry into the content store: by pieces, gone on with where it broke off, verified.

ingest (maybe with a beginning) ──► Range ──► 206 here, 200 from the start, 416 anew ──► commit
     ▲                                │ breaks: again, with patience             │ is another: anew,
     └────────────────────────────────┘                                          ▼ at most three times
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from swarmd.image.core.manifest import Descriptor
from swarmd.image.flights import Flights
from swarmd.image.port import Content, Ingest, Progress
from swarmd.image.registry.core import auth, headers
from swarmd.image.registry.hints import Hints
from swarmd.image.registry.http_client import Reply, Unreached
from swarmd.image.registry.remote import TRIES, Remote, Surroundings
from swarmd.model.errors import Invalid, NotFound

STRIKES = 3
"""Times that wrong content is thrown away before it is the registry's fault."""


class Downloads:
    """Into ``content``; two that want one blob share the work."""

    def __init__(self, content: Content, around: Surroundings, hints: Hints) -> None:
        self._content = content
        self._around = around
        self._hints = hints
        self._flights = Flights()

    async def have(self, remote: Remote, wanted: Descriptor, progress: Progress) -> bool:
        """Have the blob; False when it was here.

        Raises Invalid for wrong content, NotFound, Denied, and Unavailable for what may work later.
        """
        item = short(wanted.digest)
        async with self._flights.alone(wanted.digest):
            if self._content.has(wanted.digest):
                return False
            for left in reversed(range(STRIKES)):
                ingest = await self._ingest(wanted)
                await self._fill(remote, wanted, ingest, progress)
                progress(item, "Verifying Checksum")
                try:
                    self._hints.ended(wanted.digest)
                    await ingest.commit(wanted.digest)
                except Invalid:
                    if not left:
                        raise
                else:
                    progress(item, "Download complete")
                    return True
        raise AssertionError  # the last try returns or raises

    async def give_up(self, digests: Iterable[str]) -> None:
        """What is here of those that are not whole is removed."""
        for digest in digests:
            async with self._flights.alone(digest):
                if key := self._hints.unfinished(digest):
                    with contextlib.suppress(NotFound):
                        await (await self._content.ingest(key)).cancel()
                    self._hints.ended(digest)

    async def _ingest(self, wanted: Descriptor) -> Ingest:
        key = self._hints.unfinished(wanted.digest)
        if key:
            with contextlib.suppress(NotFound):
                return await self._content.ingest(key)
        ingest = await self._content.ingest(algorithm=wanted.digest.partition(":")[0])
        self._hints.begun(wanted.digest, ingest.key)
        return ingest

    async def _fill(self, remote: Remote, wanted: Descriptor, ingest: Ingest, progress: Progress) -> None:
        """All bytes of the blob are in ``ingest``, right or wrong."""
        patience = self._around.patience()
        failures, etag = 0, ""
        if ingest.offset > wanted.size:
            await ingest.cancel()
            raise Unreached(f"blob {wanted.digest}: what was here of it is longer than it; try again")
        while ingest.offset < wanted.size:
            before = ingest.offset
            reply = await self._asked(remote, wanted, before, etag)
            etag = reply.header("ETag") or etag
            try:
                await _pour(reply, wanted, ingest, progress)
                broken = Unreached(f"blob {wanted.digest}: {remote.place.host} ended it early")
            except Unreached as error:
                broken = error
            finally:
                reply.release()
            failures = 0 if ingest.offset > before else failures + 1
            if failures >= TRIES:
                raise broken
            if ingest.offset < wanted.size:
                await self._around.clock.sleep(patience.next())

    async def _asked(self, remote: Remote, wanted: Descriptor, offset: int, etag: str) -> Reply:
        more = {"Range": f"bytes={offset}-{wanted.size - 1}"} if offset else {}
        if offset and etag and not etag.startswith("W/"):
            more["If-Range"] = etag
        scopes = (auth.scope(remote.place.repository, "pull"),)
        reply = await remote.send("GET", f"blobs/{wanted.digest}", scopes=scopes, more=more)
        if reply.status == 416 and offset:
            reply.release()
            return await remote.send("GET", f"blobs/{wanted.digest}", scopes=scopes)
        if reply.status not in (200, 206):
            raise await remote.error(reply, f"blob {wanted.digest}")
        return reply


async def _pour(reply: Reply, wanted: Descriptor, ingest: Ingest, progress: Progress) -> None:
    """Append what is new in an answer: one to a Range may be the whole blob all the same."""
    start = headers.begins_at(reply.header("Content-Range")) if reply.status == 206 else 0
    if start is None or start > ingest.offset:
        raise Unreached(f"blob {wanted.digest}: the registry gives another part of it than was asked for")
    told = reply.header("Content-Length")
    if told.isdecimal() and start + int(told) > wanted.size:
        await ingest.cancel()
        raise Invalid(_too_long(wanted, start + int(told)))
    position, item = start, short(wanted.digest)
    async for piece in reply.pieces():
        fresh = piece[max(0, ingest.offset - position) :]
        position += len(piece)
        if position > wanted.size:
            await ingest.cancel()
            raise Invalid(_too_long(wanted, position))
        if fresh:
            await ingest.write(fresh)
            progress(item, "Downloading", ingest.offset, wanted.size)


def _too_long(wanted: Descriptor, size: int) -> str:
    return f"blob {wanted.digest} has {size} bytes or more: the image's manifest says {wanted.size}"


def short(digest: str) -> str:
    """A digest as progress shows it: twelve digits."""
    return digest.partition(":")[2][:12]
