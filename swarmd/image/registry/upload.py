"""One blob to a registry: found there, mounted from a repository that has it, or sent.

HEAD ──► there                    POST mount ──► 201 there
 no ──────────────────────────────────────────► 202 ──► PATCH all of it ──► PUT ──► 201
                                broken: GET how much arrived ──► PATCH the rest
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from urllib.parse import quote, urljoin

from swarmd.image.core.manifest import Descriptor
from swarmd.image.port import Content, Progress
from swarmd.image.registry.core import auth, headers
from swarmd.image.registry.core.errors import PASSING
from swarmd.image.registry.http_client import CHUNK, Pieces, Reply, Unreached
from swarmd.image.registry.remote import TRIES, Remote, Surroundings
from swarmd.model.errors import Unavailable

_STREAM = {"Content-Type": "application/octet-stream"}


class Uploads:
    """From ``content``."""

    def __init__(self, content: Content, around: Surroundings) -> None:
        self._content = content
        self._around = around

    async def give(
        self, remote: Remote, blob: Descriptor, item: str, sources: Iterable[str], progress: Progress
    ) -> None:
        """The registry has the blob in this repository.

        ``sources``: repositories there that may hold it.  ``item``: what progress calls it.  Raises Denied,
        Invalid, Unavailable.
        """
        scopes = (auth.scope(remote.place.repository, "pull", "push"),)
        there = await remote.send("HEAD", f"blobs/{blob.digest}", scopes=scopes)
        there.release()
        if there.status == 200:
            progress(item, "Layer already exists")
            return
        location = ""
        for source in sources:
            location = await self._mount(remote, blob, source, scopes)
            if not location:
                progress(item, f"Mounted from {source}")
                return
            break
        await self._send(remote, blob, item, location, scopes, progress)
        progress(item, "Pushed")

    async def _mount(self, remote: Remote, blob: Descriptor, source: str, scopes: tuple[str, ...]) -> str:
        """Empty when the blob is there now; else where to send it."""
        wanted = (*scopes, auth.scope(source, "pull"))
        path = f"blobs/uploads/?mount={blob.digest}&from={quote(source, safe='/')}"
        reply = await remote.send("POST", path, scopes=wanted, body=b"")
        if reply.status == 201:
            reply.release()
            return ""
        if reply.status == 202:
            return _location(reply, remote)
        reply.release()
        return await self._begin(remote, scopes)

    async def _begin(self, remote: Remote, scopes: tuple[str, ...]) -> str:
        reply = await remote.send("POST", "blobs/uploads/", scopes=scopes, body=b"")
        if reply.status != 202:
            raise await remote.error(reply, f"push to {remote.place.repository}")
        return _location(reply, remote)

    async def _send(
        self,
        remote: Remote,
        blob: Descriptor,
        item: str,
        location: str,
        scopes: tuple[str, ...],
        progress: Progress,
    ) -> None:
        path = self._content.path(blob.digest)
        patience = self._around.patience()
        location = location or await self._begin(remote, scopes)
        offset, failures = 0, 0
        while True:
            try:
                location = await self._patch(
                    remote, blob, location, scopes, _pieces(path, offset, item, blob.size, progress), offset
                )
                await self._finish(remote, blob, location, scopes)
                return
            except Unreached as error:
                broken = error
            await self._around.clock.sleep(patience.next())
            before = offset
            location, offset = await self._where(remote, location, scopes)
            failures = 0 if offset > before else failures + 1
            if failures >= TRIES:
                raise broken
            if failures or offset > blob.size or not location:
                location, offset = await self._begin(remote, scopes), 0

    async def _patch(
        self,
        remote: Remote,
        blob: Descriptor,
        location: str,
        scopes: tuple[str, ...],
        pieces: Pieces,
        offset: int,
    ) -> str:
        if offset == blob.size:
            return location
        more = {**_STREAM}
        if offset:
            more["Content-Range"] = f"{offset}-{blob.size - 1}"
        reply = await remote.send(
            "PATCH",
            location,
            scopes=scopes,
            more=more,
            body=pieces,
            length=blob.size - offset,
            again=False,
        )
        if reply.status in PASSING or reply.status == 416:
            raise Unreached(str(await remote.error(reply, f"blob {blob.digest}")))
        if reply.status not in (202, 204):
            raise await remote.error(reply, f"blob {blob.digest}")
        return _location(reply, remote, location)

    async def _finish(self, remote: Remote, blob: Descriptor, location: str, scopes: tuple[str, ...]) -> None:
        join = "&" if "?" in location else "?"
        url = f"{location}{join}digest={quote(blob.digest, safe='')}"
        reply = await remote.send("PUT", url, scopes=scopes, more=_STREAM, body=b"", again=False)
        if reply.status in PASSING:
            raise Unreached(str(await remote.error(reply, f"blob {blob.digest}")))
        if reply.status not in (201, 204):
            raise await remote.error(reply, f"blob {blob.digest}")
        reply.release()

    async def _where(self, remote: Remote, location: str, scopes: tuple[str, ...]) -> tuple[str, int]:
        """Where to go on and from which byte; no address when the registry has forgotten the upload."""
        reply = await remote.send("GET", location, scopes=scopes)
        if reply.status not in (200, 202, 204):
            reply.release()
            return "", 0
        return _location(reply, remote, location), headers.received(reply.header("Range"))


def _location(reply: Reply, remote: Remote, default: str = "") -> str:
    """Where the upload goes on; the answer is released."""
    told, base = reply.header("Location"), reply.url
    reply.release()
    if not told and not default:
        raise Unavailable(f"{remote.place.host} begins an upload and does not say where it goes on")
    return urljoin(base, told) if told else default


def _pieces(path: Path, offset: int, item: str, size: int, progress: Progress) -> Pieces:
    async def read() -> AsyncIterator[bytes]:
        done = offset
        with path.open("rb") as file:
            file.seek(offset)
            while piece := await asyncio.to_thread(file.read, CHUNK):
                yield piece
                done += len(piece)
                progress(item, "Pushing", done, size)

    return read
