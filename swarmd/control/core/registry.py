"""Rows of the swarm's registry: how they are named, what a push or a removal changes.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from swarmd.image.registry.port import Stored
from swarmd.model import image_ref
from swarmd.model.errors import Invalid, Refused
from swarmd.model.registry import RegistryManifest, RegistryTag
from swarmd.model.replace import replace
from swarmd.store.core.transaction import Change, Delete, Put

INLINE = 64 << 10
"""Bytes of a manifest that its row holds; a larger one is a blob like any other."""

MOST_ABOUT = 1000
"""Manifests about one image (signatures, lists of its packages): every one is read when it is judged."""


class Entry(msgspec.Struct, frozen=True):
    """A manifest by one of its tags, or by none.  ``size``: bytes of what it refers to, as it says."""

    repository: str
    tag: str
    digest: str
    size: int
    pushed_at: float
    media_type: str


class Named(msgspec.Struct, frozen=True):
    """What a user means: a repository, a tag in it, or a manifest."""

    repository: str
    tag: str = ""
    digest: str = ""


def manifest_id(repository: str, digest: str) -> str:
    return f"{repository}@{digest}"


def tag_id(repository: str, tag: str) -> str:
    return f"{repository}:{tag}"


def repository_of(ref: image_ref.ImageRef, domains: Collection[str]) -> str:
    """Which repository of the swarm's registry a reference means; "" when it means another registry."""
    domain, _, path = ref.name.partition("/")
    return path if domain in domains else ""


def named(text: str, domains: Collection[str]) -> Named:
    """``REPOSITORY``, ``REPOSITORY:TAG`` or ``REPOSITORY@DIGEST``, with or without the registry's own domain.

    Raises Invalid.
    """
    rest, _, digest = text.partition("@")
    for domain in domains:
        rest = rest.removeprefix(f"{domain}/")
    head, colon, tail = rest.rpartition(":")
    repository, tag = (head, tail) if colon and "/" not in tail else (rest, "")
    suffix = f":{tag}" if tag else ""
    try:
        image_ref.parse(f"registry.invalid/{repository}{suffix}{f'@{digest}' if digest else ''}")
    except Invalid:
        raise Invalid(
            f'"{text}" names nothing in a registry: write REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST'
        ) from None
    return Named(repository, tag, digest)


def as_stored(row: RegistryManifest) -> Stored:
    """A row as the registry's port has it; ``data`` is empty when it is kept as a blob."""
    return Stored(
        digest=row.digest,
        media_type=row.media_type,
        data=row.data,
        blobs=row.blobs,
        subject=row.subject,
        artifact_type=row.artifact_type,
        annotations=dict(row.annotations),
    )


def put(
    repository: str,
    manifest: Stored,
    tags: tuple[str, ...],
    *,
    row: RegistryManifest | None,
    tag_of: Callable[[str], RegistryTag | None],
    manifest_of: Callable[[str], RegistryManifest | None],
    about: int,
    now: float,
) -> list[Change]:
    """Keep a manifest (``row``: as it is kept already) and point tags to it.

    ``about``: how many there are about the same subject.  Raises Refused when that are too many.
    """
    if row is None and manifest.subject and about >= MOST_ABOUT:
        raise Refused(f"{manifest.subject} has {about} manifests about it, and may have no more: delete some")
    tagged_at = now if tags or row is None else row.tagged_at
    changes: list[Change] = [Put(_manifest(repository, manifest, row, tagged_at))]
    left: dict[str, RegistryManifest] = {}
    for tag in dict.fromkeys(tags):
        before = tag_of(tag)
        if before is not None and before.digest == manifest.digest:
            continue
        changes.append(Put(_tag(repository, tag, manifest.digest, before)))
        lost = manifest_of(before.digest) if before else None
        if lost is not None:
            left[lost.id] = replace(lost, tagged_at=now)
    return [*changes, *(Put(lost) for lost in left.values())]


def _manifest(
    repository: str, manifest: Stored, row: RegistryManifest | None, tagged_at: float
) -> RegistryManifest:
    return RegistryManifest(
        id=manifest_id(repository, manifest.digest),
        version=row.version if row else 0,
        repository=repository,
        digest=manifest.digest,
        media_type=manifest.media_type,
        data=manifest.data if len(manifest.data) <= INLINE else b"",
        blobs=manifest.blobs,
        subject=manifest.subject,
        artifact_type=manifest.artifact_type,
        annotations=manifest.annotations,
        tagged_at=tagged_at,
    )


def _tag(repository: str, tag: str, digest: str, before: RegistryTag | None) -> RegistryTag:
    version = before.version if before else 0
    return RegistryTag(
        id=tag_id(repository, tag), version=version, repository=repository, tag=tag, digest=digest
    )


def removal(rows: Collection[RegistryManifest], tags: Collection[RegistryTag]) -> list[Change]:
    """Without these manifests and tags."""
    return [
        *(Delete(RegistryTag, tag.id, tag.version) for tag in tags),
        *(Delete(RegistryManifest, row.id, row.version) for row in rows),
    ]


class _Sized(msgspec.Struct):
    size: int = 0


class _Document(msgspec.Struct):
    config: _Sized | None = None
    layers: list[_Sized] = []
    manifests: list[_Sized] = []


def size_of(data: bytes) -> int:
    """Bytes of what a manifest refers to, as it says; 0 for one that is not here or says nothing."""
    try:
        document = msgspec.json.decode(data, type=_Document)
    except msgspec.MsgspecError:
        return 0
    config = document.config.size if document.config else 0
    return config + sum(one.size for one in (*document.layers, *document.manifests))


def entries(rows: Collection[RegistryManifest], tags: Collection[RegistryTag]) -> list[Entry]:
    """By repository and tag; manifests without a tag, and that no other one is made of, come last."""
    by_id = {row.id: row for row in rows}
    found: list[Entry] = []
    for tag in tags:
        row = by_id.get(manifest_id(tag.repository, tag.digest))
        if row is not None:
            found.append(_entry(row, tag.tag, tag.updated_at))
    tagged = {(entry.repository, entry.digest) for entry in found}
    parts = {(row.repository, blob) for row in rows for blob in row.blobs}
    found += [
        _entry(row, "", row.created_at) for row in rows if (row.repository, row.digest) not in tagged | parts
    ]
    return sorted(found, key=lambda one: (one.repository, not one.tag, one.tag, one.digest))


def _entry(row: RegistryManifest, tag: str, at: float) -> Entry:
    return Entry(row.repository, tag, row.digest, size_of(row.data), at, row.media_type)
