"""What a manifest that is pushed refers to, and whether it is one.  Pure.

The bytes are kept as they came: nothing here writes.  Images and indexes of OCI and of Docker are read;
any other document of type JSON is an artifact, whose references are taken from the same fields.
"""

from __future__ import annotations

import hashlib

import msgspec

from swarmd.image.registry.core.refusals import Refusal
from swarmd.image.registry.core.routes import checked_digest
from swarmd.image.registry.port import Stored

MAX_MANIFEST = 4 << 20
MAX_SHOWN = 256 << 10
"""Characters: the annotations of a referrer are listed, and agreed on by the managers, with its name."""

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
IMAGES = (MANIFEST, DOCKER_MANIFEST)
INDEXES = (INDEX, DOCKER_LIST)
_SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
_ELSEWHERE = ("nondistributable", "foreign")


class _Reference(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    media_type: str = ""
    size: int = 0


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    schema_version: int = 0
    media_type: str = ""
    artifact_type: str = ""
    config: _Reference | None = None
    layers: tuple[_Reference, ...] | None = None
    blobs: tuple[_Reference, ...] | None = None
    manifests: tuple[_Reference, ...] | None = None
    subject: _Reference | None = None
    annotations: dict[str, str] | None = None


class Pushed(msgspec.Struct, frozen=True):
    """A manifest that may be kept, once ``blobs`` and ``manifests`` (digests) are in the repository.

    ``elsewhere``: layers that their owner wants to be fetched from him; they may be in the repository.
    """

    stored: Stored
    blobs: tuple[str, ...]
    manifests: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """``algorithm:<hex>`` of ``data``."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def read_pushed(data: bytes, content_type: str, reference: str) -> Pushed:
    """The manifest ``data`` that was pushed to ``reference`` (a tag or digest).

    Raises :class:`Refusal`: for what is none, for a digest it does not have, for a type in the header that
    is not the document's own (whoever reads it later would take it for something else).
    """
    algorithm = reference.partition(":")[0] if ":" in reference else "sha256"
    digest = digest_of(data, algorithm)
    if ":" in reference and digest != reference:
        raise Refusal("DIGEST_INVALID", f"the manifest has the digest {digest}, not {reference}")
    document = _decode(data)
    media_type = _media_type(document, content_type)
    _check_shape(document, media_type)
    children = tuple(each.digest for each in document.manifests or ())
    blobs = tuple(each.digest for each in _parts(document) if not _is_elsewhere(each))
    elsewhere = tuple(each.digest for each in _parts(document) if _is_elsewhere(each))
    subject = document.subject.digest if document.subject else ""
    for each in (*children, *blobs, *elsewhere, *((subject,) if subject else ())):
        checked_digest(each)
    artifact_type = document.artifact_type
    if not artifact_type and media_type in IMAGES and document.config is not None:
        artifact_type = document.config.media_type
    stored = Stored(
        digest=digest,
        media_type=media_type,
        data=data,
        blobs=tuple(dict.fromkeys((*blobs, *children))),
        subject=subject,
        artifact_type=artifact_type,
        annotations=_shown(document) if subject else {},
    )
    return Pushed(stored, tuple(dict.fromkeys(blobs)), tuple(dict.fromkeys(children)), elsewhere)


def media_type_of(data: bytes) -> str:
    """Of a manifest that came without one: what it says, or what its fields are those of."""
    return _media_type(_decode(data), "")


def _decode(data: bytes) -> _Document:
    try:
        return msgspec.json.decode(data, type=_Document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("MANIFEST_INVALID", f"the manifest cannot be read: {error}") from error


def _media_type(document: _Document, content_type: str) -> str:
    given = content_type.partition(";")[0].strip().lower()
    given = "" if given in ("application/json", "application/octet-stream") else given
    if given and document.media_type and given != document.media_type.lower():
        raise Refusal(
            "MANIFEST_INVALID",
            f"the Content-Type is {given}, but the manifest says that it is {document.media_type}",
        )
    return given or document.media_type or (INDEX if document.manifests is not None else MANIFEST)


def _check_shape(document: _Document, media_type: str) -> None:
    if media_type in _SCHEMA_1 or document.schema_version == 1:
        raise Refusal(
            "MANIFEST_INVALID",
            "manifests of Docker's schema 1 are not supported: push with a client of this decade, or "
            "convert with skopeo copy --format oci",
        )
    if document.manifests is not None and document.layers is not None:
        raise Refusal("MANIFEST_INVALID", "the manifest has layers and manifests: it is one or the other")
    if media_type in IMAGES and (document.config is None or document.layers is None):
        raise Refusal("MANIFEST_INVALID", "an image manifest needs config and layers")
    if media_type in INDEXES and document.manifests is None:
        raise Refusal("MANIFEST_INVALID", "an index needs manifests")
    if media_type in (*IMAGES, *INDEXES) and document.schema_version != 2:
        raise Refusal("MANIFEST_INVALID", f"schemaVersion is {document.schema_version}: it must be 2")
    parts = (*_parts(document), *(document.manifests or ()))
    if any(each.size < 0 for each in parts):
        raise Refusal("MANIFEST_INVALID", "a descriptor's size is negative")


def _parts(document: _Document) -> tuple[_Reference, ...]:
    config = (document.config,) if document.config is not None else ()
    return (*config, *(document.layers or ()), *(document.blobs or ()))


def _shown(document: _Document) -> dict[str, str]:
    """What a list of referrers shows; nobody else needs it apart from the manifest."""
    found = document.annotations or {}
    if sum(len(key) + len(value) for key, value in found.items()) > MAX_SHOWN:
        raise Refusal(
            "SIZE_INVALID",
            f"a manifest with a subject has at most {MAX_SHOWN} characters of annotations",
            status=413,
        )
    return found


def _is_elsewhere(reference: _Reference) -> bool:
    return any(word in reference.media_type for word in _ELSEWHERE)
