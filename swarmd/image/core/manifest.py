"""Manifests and indexes (OCI, and Docker's schema 2 which has the same shape).  Pure.

A manifest is stored and sent as the exact bytes it came in: its digest is its name.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec

from swarmd.model.errors import Invalid

MAX_MANIFEST = 4 << 20
MAX_LAYERS = 500  # overlayfs takes no more lower directories

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_COMPRESSIONS = ("", "gzip", "zstd")
INDEX = "application/vnd.oci.image.index.v1+json"
_INDEXES = (
    INDEX,
    "application/vnd.docker.distribution.manifest.list.v2+json",
)

Sha256 = Annotated[str, msgspec.Meta(pattern="^sha256:[a-f0-9]{64}$")]


class Platform(msgspec.Struct, frozen=True):
    """Where one manifest of an index runs (Go's names)."""

    architecture: str = ""
    os: str = ""


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A blob by digest, with the size in bytes it must have."""

    media_type: str
    digest: Sha256
    size: Annotated[int, msgspec.Meta(ge=0)]
    platform: Platform | None = None
    annotations: dict[str, str] | None = None


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """One image: its configuration and its layers, bottom first."""

    schema_version: int
    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = ""

    def blobs(self) -> tuple[Descriptor, ...]:
        """Everything the image needs besides the manifest itself."""
        return (self.config, *self.layers)


class Index(msgspec.Struct, frozen=True, rename="camel"):
    """Several manifests under one name; one is chosen by platform."""

    schema_version: int
    manifests: tuple[Descriptor, ...]

    def choose(self, arch: str) -> tuple[Descriptor, ...]:
        """The entries that may run on linux/``arch``; those without a platform may."""
        return tuple(each for each in self.manifests if _fits(each, arch))


def _fits(entry: Descriptor, arch: str) -> bool:
    where = entry.platform
    return where is None or not where.os or (where.os, where.architecture) == ("linux", arch)


def sha256(data: bytes) -> str:
    """``sha256:<hex>`` of ``data``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def is_index(descriptor: Descriptor) -> bool:
    """Whether the blob is an index and not a manifest."""
    return descriptor.media_type in _INDEXES


def read_index(raw: bytes) -> Index:
    """Parse an index; raises :class:`Invalid`."""
    try:
        return msgspec.json.decode(raw, type=Index)
    except msgspec.MsgspecError as error:
        raise Invalid(f"the image index cannot be read: {error}") from error


def read_manifest(raw: bytes) -> Manifest:
    """Parse a manifest; raises :class:`Invalid` for an index, schema 1 and anything else."""
    if len(raw) > MAX_MANIFEST:
        raise Invalid(f"an image manifest of {len(raw)} bytes is refused: the limit is {MAX_MANIFEST}")
    try:
        found = msgspec.json.decode(raw, type=Manifest)
    except msgspec.MsgspecError as error:
        raise Invalid(f"the image manifest cannot be read: {error}") from error
    if found.schema_version != 2 or found.media_type in _INDEXES:
        kind = found.media_type or f"schema {found.schema_version}"
        raise Invalid(f"this is no image manifest but {kind}; give the manifest of one platform")
    if len(found.layers) > MAX_LAYERS:
        raise Invalid(f"the image has {len(found.layers)} layers: the limit is {MAX_LAYERS}")
    return found


class _Named(msgspec.Struct, frozen=True):
    digest: str = ""


class _Referring(msgspec.Struct, frozen=True):
    config: _Named | None = None
    layers: tuple[_Named, ...] | None = None
    blobs: tuple[_Named, ...] | None = None
    manifests: tuple[_Named, ...] | None = None


def referred(raw: bytes) -> tuple[str, ...]:
    """Digests of all that a manifest or index needs; empty when it is neither.

    The subject is not among them: it can go without those who speak of it.
    """
    try:
        found = msgspec.json.decode(raw, type=_Referring)
    except msgspec.MsgspecError:
        return ()
    config = (found.config,) if found.config else ()
    named = (*config, *(found.layers or ()), *(found.blobs or ()), *(found.manifests or ()))
    return tuple(each.digest for each in named if each.digest)


def write_manifest(config: bytes, layers: tuple[Descriptor, ...]) -> bytes:
    """The bytes of an OCI manifest over ``config`` and ``layers``; equal input gives equal bytes."""
    return msgspec.json.encode(
        Manifest(2, Descriptor(CONFIG, sha256(config), len(config)), layers, MANIFEST), order="sorted"
    )


def layer_descriptor(digest: str, size: int, compression: str) -> Descriptor:
    """A layer's descriptor; ``compression`` is ``""``, ``gzip`` or ``zstd``, else raises Invalid."""
    if compression not in LAYER_COMPRESSIONS:
        raise Invalid(
            f"layer {digest} is compressed with {compression}, which no image format knows: use gzip or zstd"
        )
    return Descriptor(LAYER + (f"+{compression}" if compression else ""), digest, size)


def chain_ids(diff_ids: tuple[str, ...]) -> tuple[str, ...]:
    """The identity of each layer *with* what lies below it, bottom first."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(sha256(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)
