"""The swarm's registry: every end of the OCI distribution API, over names and blobs.

::

    HTTP ──► http_server ──► Registry.handle ──► Names   (manifests, tags: the swarm's)
                                            └──► Content (blobs: this node's, others' fetched when asked for)

A request becomes a reply or a :class:`Refusal`; what is decided about texts is in ``core``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import structlog

from swarmd.image.port import Content
from swarmd.image.registry.blobs import Blobs, Ensure, is_known
from swarmd.image.registry.core import lists
from swarmd.image.registry.core.pushed import INDEX, MAX_MANIFEST, Pushed, read_pushed
from swarmd.image.registry.core.refusals import Headers, Refusal, refusal_for
from swarmd.image.registry.core.routes import End, Route, checked_tag, is_digest, route
from swarmd.image.registry.exchange import Reply, Request
from swarmd.image.registry.intake import Uploads
from swarmd.image.registry.links import Links
from swarmd.image.registry.mirror import Mirror
from swarmd.image.registry.port import Names, Stored
from swarmd.model.errors import NotFound, SwarmError

OnPushed = Callable[[str, Stored, tuple[str, ...]], Awaitable[None]]
"""Told of a manifest that came into a repository, and of the tags that lead to it now."""

_KNOWN = 60.0
"""Seconds after which every node that keeps registry contents knows of a manifest that was stored."""

_ALWAYS: Headers = (("Docker-Distribution-Api-Version", "registry/2.0"),)


async def nowhere(digest: str) -> None:
    """The :data:`Ensure` of a node that can fetch from nobody."""
    raise NotFound(f"blob {digest} is not on this node")


class Registry:
    """One node's end of the swarm's registry."""

    def __init__(
        self,
        names: Names,
        content: Content,
        uploads: Uploads,
        links: Links,
        *,
        ensure: Ensure = nowhere,
        mirror: Mirror | None = None,
        on_pushed: OnPushed | None = None,
        may_delete: bool = True,
    ) -> None:
        self._names = names
        self._content = content
        self._uploads = uploads
        self._links = links
        self._mirror = mirror
        self._on_pushed = on_pushed
        self._may_delete = may_delete
        self._blobs = Blobs(names, content, uploads, links, ensure, may_delete=may_delete)
        self._log = structlog.get_logger()

    async def handle(self, request: Request) -> Reply:
        """Answer one request, whatever it is."""
        try:
            reply = await self._answer(request)
        except Refusal as refusal:
            reply = _no(refusal)
        except SwarmError as error:
            reply = _no(refusal_for(error))
        return msgspec.structs.replace(reply, headers=(*_ALWAYS, *reply.headers))

    async def tidy(self) -> None:
        """Forget uploads and blobs that nobody goes on with.  To be called now and then."""
        await self._uploads.expire()
        self._links.expire()

    async def close(self) -> None:
        """Give up what is under way."""
        await self._uploads.close()
        self._links.close()

    async def _answer(self, request: Request) -> Reply:
        found = route(request.method, request.path)
        if found.end is End.BASE:
            return Reply(200, (("Content-Type", "application/json"),), b"{}")
        if found.end is End.CATALOG:
            return await self._catalog(request)
        if self._mirror is not None and (elsewhere := await self._mirror.means(found, request, self._names)):
            return await self._mirror.answer(elsewhere, request)
        return await self._in_repository(found, request)

    async def _in_repository(self, found: Route, request: Request) -> Reply:
        match found.end, request.method:
            case End.TAGS, _:
                return await self._tags(found, request)
            case End.REFERRERS, _:
                return await self._referrers(found, request)
            case End.MANIFEST, "PUT":
                return await self._put_manifest(found, request)
            case End.MANIFEST, "DELETE":
                return await self._delete_manifest(found)
            case End.MANIFEST, _:
                return await self._get_manifest(found, request)
            case End.BLOB, "DELETE":
                return await self._blobs.delete(found)
            case End.BLOB, _:
                return await self._blobs.read(found, request)
            case End.UPLOADS, _:
                return await self._blobs.post(found, request)
            case _:
                return await self._upload(found, request)

    async def _upload(self, found: Route, request: Request) -> Reply:
        match request.method:
            case "PATCH":
                return await self._blobs.patch(found, request)
            case "PUT":
                return await self._blobs.put(found, request)
            case "DELETE":
                return await self._blobs.cancel(found)
            case _:
                return await self._blobs.status(found)

    # manifests

    async def _get_manifest(self, found: Route, request: Request) -> Reply:
        stored = await self._names.find(found.name, found.reference)
        if stored is None:
            raise Refusal("MANIFEST_UNKNOWN", "the repository has no such manifest", detail=found.reference)
        return manifest_reply(stored, request)

    async def _put_manifest(self, found: Route, request: Request) -> Reply:
        if request.length is not None and request.length > MAX_MANIFEST:
            raise _too_large()
        data = await _all_of(request.body(), MAX_MANIFEST)
        pushed = read_pushed(data, request.header("content-type"), found.reference)
        tags = tuple(checked_tag(tag) for tag in request.every("tag"))
        if not is_digest(found.reference):
            tags = (found.reference, *tags)
        stored = await self._complete(found.name, pushed)
        with self._content.holding((stored.digest, *stored.blobs)):
            await self._content.put(data, stored.digest)
            await self._names.put(found.name, stored, tags)
        for digest in stored.blobs:
            self._links.drop(found.name, digest)
        self._content.leave((stored.digest, *stored.blobs), after=_KNOWN)
        if self._on_pushed is not None:
            await self._tell(found.name, stored, tags)
        headers: Headers = (
            ("Location", f"/v2/{found.name}/manifests/{stored.digest}"),
            ("Docker-Content-Digest", stored.digest),
            *((("OCI-Subject", stored.subject),) if stored.subject else ()),
            *(("OCI-Tag", tag) for tag in request.every("tag")),
        )
        return Reply(201, headers)

    async def _complete(self, repository: str, pushed: Pushed) -> Stored:
        """What is to be kept; raises :class:`Refusal` while something it needs is missing."""
        for digest in pushed.blobs:
            if not await self._blobs.has(repository, digest):
                raise Refusal(
                    "MANIFEST_BLOB_UNKNOWN", "the repository lacks a blob of this manifest", detail=digest
                )
        for digest in pushed.manifests:
            if await self._names.find(repository, digest) is None:
                raise Refusal(
                    "MANIFEST_BLOB_UNKNOWN", "the repository lacks a manifest of this index", detail=digest
                )
        brought = [digest for digest in pushed.elsewhere if await self._blobs.has(repository, digest)]
        blobs = tuple(dict.fromkeys((*pushed.stored.blobs, *brought)))
        return msgspec.structs.replace(pushed.stored, blobs=blobs)

    async def _tell(self, repository: str, stored: Stored, tags: tuple[str, ...]) -> None:
        """What the node makes of a manifest is no reason to refuse it."""
        assert self._on_pushed is not None
        try:
            await self._on_pushed(repository, stored, tags)
        except SwarmError as error:
            self._log.warning(
                "pushed_image_not_taken", repository=repository, digest=stored.digest, reason=str(error)
            )

    async def _delete_manifest(self, found: Route) -> Reply:
        if not self._may_delete:
            raise Refusal("UNSUPPORTED", "this registry deletes nothing (registry.delete is off)")
        if is_digest(found.reference):
            was_there = await self._names.delete(found.name, found.reference)
        else:
            was_there = await self._names.delete_tag(found.name, found.reference)
        if not was_there:
            raise Refusal("MANIFEST_UNKNOWN", "the repository has no such manifest", detail=found.reference)
        return Reply(202)

    # lists

    async def _tags(self, found: Route, request: Request) -> Reply:
        tags = await self._names.tags(found.name)
        if tags is None:
            raise Refusal("NAME_UNKNOWN", "there is no such repository", detail=found.name)
        shown, more = lists.page(tags, request.first("n"), request.first("last"))
        link = lists.link_to_next(f"/v2/{found.name}/tags/list", request.first("n"), shown) if more else ()
        return _json({"name": found.name, "tags": shown}, link)

    async def _catalog(self, request: Request) -> Reply:
        names = await self._names.repositories()
        shown, more = lists.page(names, request.first("n"), request.first("last"))
        link = lists.link_to_next("/v2/_catalog", request.first("n"), shown) if more else ()
        return _json({"repositories": shown}, link)

    async def _referrers(self, found: Route, request: Request) -> Reply:
        artifact_type = request.first("artifactType")
        about = await self._names.referrers(found.name, found.reference)
        headers: Headers = (("Content-Type", INDEX),)
        if artifact_type:
            headers = (*headers, ("OCI-Filters-Applied", "artifactType"))
        return Reply(200, headers, lists.referrers(about, artifact_type))


def manifest_reply(stored: Stored, request: Request) -> Reply:
    """A manifest, for GET and HEAD."""
    headers: Headers = (
        ("Content-Type", stored.media_type),
        ("Docker-Content-Digest", stored.digest),
        ("ETag", f'"{stored.digest}"'),
    )
    if is_known(request, stored.digest):
        return Reply(304, headers)
    if request.method == "HEAD":
        return Reply(200, headers, length=len(stored.data))
    return Reply(200, headers, stored.data)


def _json(document: dict[str, object], headers: Headers) -> Reply:
    return Reply(200, (("Content-Type", "application/json"), *headers), msgspec.json.encode(document))


def _no(refusal: Refusal) -> Reply:
    headers: Headers = (("Content-Type", "application/json"), *refusal.headers)
    return Reply(refusal.status, headers, refusal.body())


def _too_large() -> Refusal:
    return Refusal("SIZE_INVALID", f"a manifest has at most {MAX_MANIFEST} bytes", status=413)


async def _all_of(body: AsyncIterator[bytes], limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in body:
        size += len(piece)
        if size > limit:
            raise _too_large()
        pieces.append(piece)
    return b"".join(pieces)
