"""Reading other registries through this one: each thing is fetched once and served from here from then on.

::

    ?ns=docker.io on library/nginx          ┐
    docker.io/library/nginx as repository   ┴─► cached? ──► fetched and kept ──► served

A digest is right for ever.  Where a tag leads is asked again after :data:`FRESH` seconds; when the other
registry cannot be reached, what it said last is served, with a warning.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from swarmd.image.flights import Flights
from swarmd.image.port import Content
from swarmd.image.registry import remembered
from swarmd.image.registry.blobs import blob_reply, is_known
from swarmd.image.registry.core.pushed import MAX_MANIFEST, digest_of, media_type_of
from swarmd.image.registry.core.refusals import Headers, Refusal
from swarmd.image.registry.core.routes import End, Route, checked_name, is_digest
from swarmd.image.registry.exchange import Reply, Request
from swarmd.image.registry.port import Names
from swarmd.kit.clock import Clock
from swarmd.model.errors import Invalid, Unavailable

FRESH = 60.0
KEPT = 30 * 86_400.0
"""Seconds without a look at the tag after which its image may be collected."""


class Found(Protocol):
    """A manifest of another registry."""

    @property
    def digest(self) -> str: ...

    @property
    def media_type(self) -> str: ...

    @property
    def raw(self) -> bytes: ...


class Upstream(Protocol):
    """How other registries are read.  Both raise NotFound, Denied, Unavailable."""

    async def resolve(self, ref: str) -> Found:
        """The manifest or index of a complete reference."""
        ...

    async def have_blob(self, ref: str, digest: str) -> None:
        """Store a blob of the repository of ``ref`` here, verified; one download for all who ask at once.

        Raises Invalid when the other registry sends something else.
        """
        ...


class Elsewhere(msgspec.Struct, frozen=True):
    """What is asked for: ``repository`` with its host."""

    end: End
    host: str
    repository: str
    reference: str


class _Tag(msgspec.Struct, frozen=True):
    digest: str
    media_type: str
    checked_at: float


class Mirror:
    """``hosts``: which registries may be read through; ``*`` is all.  ``state``: the file that keeps where
    tags led."""

    def __init__(
        self, upstream: Upstream, content: Content, clock: Clock, state: Path, hosts: tuple[str, ...]
    ) -> None:
        self._upstream = upstream
        self._content = content
        self._clock = clock
        self._state = state
        self._hosts = hosts
        self._flights = Flights()
        self._tags = remembered.read(state, dict[str, _Tag], {})
        self._log = structlog.get_logger()

    def roots(self) -> list[str]:
        """Manifests that are not to be collected, nor what they refer to."""
        since = self._clock.now() - KEPT
        return [tag.digest for tag in self._tags.values() if tag.checked_at > since]

    async def means(self, route: Route, request: Request, names: Names) -> Elsewhere | None:
        """Where else the request leads; None for a repository of the swarm.

        Raises :class:`Refusal` (403) for a host that may not be read through.
        """
        if route.end not in (End.MANIFEST, End.BLOB) or request.method not in ("GET", "HEAD"):
            return None
        if namespace := request.first("ns"):
            host, name = namespace.lower(), route.name
        else:
            host, _, name = route.name.partition("/")
            if "." not in host or not name or await names.tags(route.name) is not None:
                return None
            if (route.end, request.method) == (End.BLOB, "HEAD"):
                return None  # asked before a push: what lies elsewhere is not in the swarm's repository
        if "*" not in self._hosts and host not in self._hosts:
            raise Refusal("DENIED", f"{host} is not read through this registry: see registry.mirror")
        if host == "docker.io" and "/" not in name:
            name = f"library/{name}"
        return Elsewhere(route.end, host, f"{host}/{checked_name(name)}", route.reference)

    async def answer(self, asked: Elsewhere, request: Request) -> Reply:
        """The manifest or blob, from here or from there."""
        namespace: Headers = (("OCI-Namespace", asked.host),)
        if asked.end is End.BLOB:
            await self._have_blob(asked)
            reply = blob_reply(self._content, asked.reference, request)
            return msgspec.structs.replace(reply, headers=(*reply.headers, *namespace))
        tag, warning = await self._manifest(asked)
        headers: Headers = (
            ("Content-Type", tag.media_type),
            ("Docker-Content-Digest", tag.digest),
            ("ETag", f'"{tag.digest}"'),
            *namespace,
            *warning,
        )
        if is_known(request, tag.digest):
            return Reply(304, headers)
        if request.method == "HEAD":
            return Reply(200, headers, length=self._content.size(tag.digest))
        return Reply(200, headers, self._raw(tag.digest))

    async def _have_blob(self, asked: Elsewhere) -> None:
        digest = asked.reference
        if self._content.has(digest):
            return
        try:
            await self._upstream.have_blob(f"{asked.repository}@{digest}", digest)
        except Invalid as error:
            raise Unavailable(f"{asked.host} sent something else than {digest}") from error

    async def _manifest(self, asked: Elsewhere) -> tuple[_Tag, Headers]:
        if is_digest(asked.reference):
            return await self._by_digest(asked), ()
        ref = f"{asked.repository}:{asked.reference}"
        async with self._flights.alone(ref):
            known = self._tags.get(ref)
            if known is not None and not self._content.has(known.digest):
                known = None
            if known is not None and self._clock.now() - known.checked_at < FRESH:
                return known, ()
            try:
                return await self._ask(ref), ()
            except Unavailable as error:
                if known is None:
                    raise
                self._log.warning("mirror_answers_from_memory", ref=ref, reason=str(error))
                return known, (
                    ("Warning", f'110 - "{asked.host} cannot be reached: this is what it said last"'),
                )

    async def _by_digest(self, asked: Elsewhere) -> _Tag:
        digest = asked.reference
        if not self._content.has(digest):
            async with self._flights.alone(digest):
                if not self._content.has(digest):
                    found = await self._upstream.resolve(f"{asked.repository}@{digest}")
                    await self._keep(found, digest)
        return _Tag(digest, media_type_of(self._raw(digest)), 0.0)

    def _raw(self, digest: str) -> bytes:
        """A manifest that is here; raises :class:`Refusal` for a larger blob, which is none."""
        if self._content.size(digest) > MAX_MANIFEST:
            raise Refusal("MANIFEST_UNKNOWN", "this blob is too large to be a manifest", detail=digest)
        return self._content.path(digest).read_bytes()

    async def _ask(self, ref: str) -> _Tag:
        found = await self._upstream.resolve(ref)
        await self._keep(found, found.digest)
        now = self._clock.now()
        tag = _Tag(found.digest, found.media_type, now)
        self._tags = {name: each for name, each in self._tags.items() if each.checked_at > now - KEPT}
        self._tags[ref] = tag
        try:
            remembered.write(self._state, self._tags)
        except OSError as error:
            self._log.warning("mirror_not_saved", reason=str(error))
        return tag

    async def _keep(self, found: Found, digest: str) -> None:
        if digest_of(found.raw, digest.partition(":")[0]) != digest:
            raise Unavailable(f"the registry sent another manifest than {digest}")
        await self._content.put(found.raw, digest)
