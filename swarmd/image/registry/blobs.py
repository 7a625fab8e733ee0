"""The ends of the registry that are about blobs: look, fetch, delete, upload, mount."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from swarmd.image.port import Content
from swarmd.image.registry.core import ranges
from swarmd.image.registry.core.refusals import Headers, Refusal
from swarmd.image.registry.core.routes import Route, checked_algorithm, checked_digest, checked_name
from swarmd.image.registry.exchange import Reply, Request
from swarmd.image.registry.intake import Upload, Uploads
from swarmd.image.registry.links import Links
from swarmd.image.registry.port import Names
from swarmd.model.errors import SwarmError

Ensure = Callable[[str], Awaitable[None]]
"""Have a blob here that the swarm holds; raises NotFound, Unavailable."""


class Blobs:
    """Blobs by repository, over what is stored on this node and what ``ensure`` can fetch."""

    def __init__(
        self,
        names: Names,
        content: Content,
        uploads: Uploads,
        links: Links,
        ensure: Ensure,
        *,
        may_delete: bool,
    ) -> None:
        self._names = names
        self._content = content
        self._uploads = uploads
        self._links = links
        self._ensure = ensure
        self._may_delete = may_delete

    # a blob

    async def read(self, route: Route, request: Request) -> Reply:
        """GET and HEAD of a blob, or a part of it."""
        digest = route.reference
        if not await self.has(route.name, digest):
            raise Refusal("BLOB_UNKNOWN", "the repository has no such blob", detail=digest)
        if not self._content.has(digest):
            await self._ensure(digest)
        return blob_reply(self._content, digest, request)

    async def has(self, repository: str, digest: str) -> bool:
        """Whether the repository has it; the swarm holds what a manifest there refers to."""
        return self._links.has(repository, digest) or await self._names.holds(repository, digest)

    async def delete(self, route: Route) -> Reply:
        """A blob that no manifest needs.  One that is needed is not deleted: its images would be broken."""
        if not self._may_delete:
            raise Refusal("UNSUPPORTED", "this registry deletes nothing (registry.delete is off)")
        if await self._names.holds(route.name, route.reference):
            raise Refusal("UNSUPPORTED", "a manifest of the repository needs this blob: delete that first")
        if not self._links.drop(route.name, route.reference):
            raise Refusal("BLOB_UNKNOWN", "the repository has no such blob", detail=route.reference)
        return Reply(202)

    # uploads

    async def post(self, route: Route, request: Request) -> Reply:
        """Begin an upload; or all of it at once (``digest=``), or take a blob from elsewhere (``mount=``)."""
        if mount := request.first("mount"):
            digest = checked_digest(mount)
            if await self._can_mount(request.first("from"), digest):
                self._links.add(route.name, digest)
                return _stored(route.name, digest)
        digest = request.first("digest")
        algorithm = checked_digest(digest).partition(":")[0] if digest else "sha256"
        if request.has("digest-algorithm"):
            algorithm = checked_algorithm(request.first("digest-algorithm"))
        upload = self._uploads.begin(route.name, algorithm)
        if digest:
            try:
                return await self._complete(upload, request, digest)
            except BaseException:
                await self._uploads.cancel(upload)  # its client was not told where it could go on
                raise
        return Reply(202, _progress(upload))

    async def patch(self, route: Route, request: Request) -> Reply:
        """A piece of an upload."""
        upload = await self._uploads.find(route.name, route.reference)
        with self._uploads.alone(upload):
            piece = request.header("content-range")
            ranges.check_piece(piece, request.length, upload.offset, _progress(upload))
            await self._uploads.append(upload, request.body())
        return Reply(202, _progress(upload))

    async def put(self, route: Route, request: Request) -> Reply:
        """The end of an upload, with what is still to come of it."""
        upload = await self._uploads.find(route.name, route.reference)
        return await self._complete(upload, request, checked_digest(request.first("digest")))

    async def status(self, route: Route) -> Reply:
        """How far an upload is."""
        return Reply(204, _progress(await self._uploads.find(route.name, route.reference)))

    async def cancel(self, route: Route) -> Reply:
        """Give an upload up."""
        upload = await self._uploads.find(route.name, route.reference)
        with self._uploads.alone(upload):
            await self._uploads.cancel(upload)
        return Reply(204)

    async def _complete(self, upload: Upload, request: Request, digest: str) -> Reply:
        with self._uploads.alone(upload):
            piece = request.header("content-range")
            ranges.check_piece(piece, request.length, upload.offset, _progress(upload))
            if upload.ingest is None:
                upload.algorithm = digest.partition(":")[0]
            with self._content.holding((digest,)):
                await self._uploads.append(upload, request.body())
                await self._uploads.finish(upload, digest)
                self._links.add(upload.repository, digest)
        return _stored(upload.repository, digest)

    async def _can_mount(self, source: str, digest: str) -> bool:
        """Without a source any blob of this node will do: whoever knows its digest has seen the content.

        With one it is here afterwards: a manifest that refers to it is kept with blobs of this node.
        """
        if source and not await self.has(checked_name(source), digest):
            return False
        if source and not self._content.has(digest):
            with contextlib.suppress(SwarmError):  # then it is uploaded
                await self._ensure(digest)
        return self._content.has(digest)


def blob_reply(content: Content, digest: str, request: Request) -> Reply:
    """A blob that is here, or the part of it that is asked for.  Raises NotFound."""
    size, path = content.size(digest), content.path(digest)
    headers: Headers = (
        ("Docker-Content-Digest", digest),
        ("Content-Type", "application/octet-stream"),
        ("ETag", f'"{digest}"'),
        ("Accept-Ranges", "bytes"),
        ("Cache-Control", "max-age=31536000, immutable"),
    )
    if is_known(request, digest):
        return Reply(304, headers)
    if request.method == "HEAD":
        return Reply(200, headers, length=size)
    condition = request.header("if-range")
    asked = request.header("range") if condition in ("", f'"{digest}"') else ""
    part = ranges.wanted(asked, size)
    if part is None:
        return Reply(200, headers, file=path, part=ranges.Span(0, size))
    shown = f"bytes {part.offset}-{part.offset + part.size - 1}/{size}"
    return Reply(206, (*headers, ("Content-Range", shown)), file=path, part=part)


def is_known(request: Request, digest: str) -> bool:
    """Whether the client says that it has this content."""
    known = [each.strip().removeprefix("W/") for each in request.header("if-none-match").split(",")]
    return f'"{digest}"' in known or known == ["*"]


def _stored(repository: str, digest: str) -> Reply:
    return Reply(201, (("Location", f"/v2/{repository}/blobs/{digest}"), ("Docker-Content-Digest", digest)))


def _progress(upload: Upload) -> Headers:
    return (
        ("Location", f"/v2/{upload.repository}/blobs/uploads/{upload.key}"),
        ("Range", ranges.received(upload.offset)),
        ("Docker-Upload-UUID", upload.key),
    )
