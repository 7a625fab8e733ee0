"""Manifests of one repository: got and checked, or put."""

from __future__ import annotations

from swarmd.image.core.manifest import MAX_MANIFEST
from swarmd.image.registry.core import auth, documents, errors
from swarmd.image.registry.core.documents import Document, Wanted
from swarmd.image.registry.remote import Remote
from swarmd.model.errors import Invalid

_NESTED = 3


async def get(remote: Remote, reference: str, name: str) -> Document:
    """An image's manifest or an index, checked.  ``name``: what it is to the user.

    Raises NotFound, Denied, Invalid, Unavailable.
    """
    media_type, raw, told = await get_raw(remote, reference, name)
    expected = reference if ":" in reference else ""
    return documents.read_document(raw, media_type, expected=expected, told=told)


async def get_raw(remote: Remote, reference: str, name: str) -> tuple[str, bytes, str]:
    """(media type, bytes, the digest in the header) of whatever lies there."""
    reply = await remote.send(
        "GET",
        f"manifests/{reference}",
        scopes=(auth.scope(remote.place.repository, "pull"),),
        more={"Accept": documents.ACCEPT},
    )
    if reply.status != 200:
        body = await reply.start(errors.MAX_ERROR)
        reply.release()
        raise errors.manifest_failure(reply.status, body, name, more=remote.more(reply))
    try:
        raw = await reply.read(MAX_MANIFEST)
    finally:
        reply.release()
    return reply.header("Content-Type"), raw, reply.header("Docker-Content-Digest")


async def of_platform(remote: Remote, found: Document, wanted: Wanted) -> Document:
    """The manifest of one platform, through indexes in indexes."""
    for _ in range(_NESTED):
        if not found.is_index:
            return found
        entry = documents.choose(documents.read_entries(found.raw), wanted)
        found = await get(remote, entry.digest, f"{remote.place.repository}@{entry.digest}")
        if len(found.raw) != entry.size:
            raise Invalid(f"manifest {entry.digest} has {len(found.raw)} bytes: the index says {entry.size}")
    if found.is_index:
        raise Invalid(f"the image is more than {_NESTED} indexes deep: it is refused")
    return found


async def put(remote: Remote, reference: str, media_type: str, raw: bytes) -> None:
    """Raises Denied, Invalid, Unavailable."""
    reply = await remote.send(
        "PUT",
        f"manifests/{reference}",
        scopes=(auth.scope(remote.place.repository, "pull", "push"),),
        more={"Content-Type": media_type},
        body=raw,
    )
    if reply.status not in (200, 201):
        raise await remote.error(reply, f"manifest of {remote.place.repository}")
    reply.release()
