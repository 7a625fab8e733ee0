"""Manifests and indexes as registries give them: what they are, which platform is taken, the other's words.

Pure.  Bytes are kept as they came; what is written here is only for registries that take nothing else.
"""

from __future__ import annotations

import hashlib

import msgspec

from swarmd.image.core.manifest import MAX_MANIFEST, Descriptor, Manifest, read_manifest
from swarmd.model.errors import Invalid, NotFound

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_LIST)
ACCEPT = ", ".join((*MANIFESTS, *INDEXES, "*/*"))
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
_DOCKER_LAYERS = {
    "application/vnd.oci.image.layer.v1.tar+gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.oci.image.layer.v1.tar": "application/vnd.docker.image.rootfs.diff.tar",
}


_ARCHITECTURES = ("amd64", "arm", "arm64", "386", "ppc64le", "riscv64", "s390x", "x86_64", "aarch64")


class _Looks(msgspec.Struct, frozen=True, rename="camel"):
    schema_version: int = 0
    media_type: str = ""
    manifests: msgspec.Raw = msgspec.Raw()
    layers: msgspec.Raw = msgspec.Raw()
    config: msgspec.Raw = msgspec.Raw()
    fs_layers: msgspec.Raw = msgspec.Raw()


class _Platform(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""
    variant: str = ""


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    """One manifest of an index."""

    digest: str
    size: int
    media_type: str = ""
    platform: _Platform | None = None
    annotations: dict[str, str] = {}
    artifact_type: str = ""


class _Tags(msgspec.Struct, frozen=True):
    tags: tuple[str, ...] | None = None


class _Index(msgspec.Struct, frozen=True):
    manifests: tuple[Entry, ...]


class Wanted(msgspec.Struct, frozen=True):
    """A platform.  ``variant``: empty for any."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Document(msgspec.Struct, frozen=True):
    """What a registry gave under a name: the exact bytes, their digest and what they are."""

    digest: str
    media_type: str
    raw: bytes

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEXES


def digest_of(raw: bytes, algorithm: str = "sha256") -> str:
    """``<algorithm>:<hex>``; Invalid for an algorithm nobody here knows."""
    if algorithm not in ("sha256", "sha512"):
        raise Invalid(f"digests by {algorithm[:20]} are not known: only sha256 and sha512 are")
    return f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"


def read_document(raw: bytes, content_type: str, *, expected: str = "", told: str = "") -> Document:
    """Check what came against its digest, its media type and itself; raises Invalid.

    ``expected``: the digest asked for; ``told``: the one in the answer's header.
    """
    if len(raw) > MAX_MANIFEST:
        raise Invalid(f"an image manifest of {len(raw)} bytes is refused: the limit is {MAX_MANIFEST}")
    wanted = expected or told
    digest = digest_of(raw, wanted.partition(":")[0] or "sha256")
    if wanted and digest != wanted:
        raise Invalid(f"the manifest is not what was asked for: its content is {digest}, not {wanted}")
    try:
        looks = msgspec.json.decode(raw, type=_Looks)
    except msgspec.MsgspecError as error:
        raise Invalid(f"the image manifest cannot be read: {error}") from error
    media_type = _media_type(looks, content_type.partition(";")[0].strip())
    return Document(digest, media_type, raw)


def _media_type(looks: _Looks, said: str) -> str:
    """What the document is, if all signs agree: one that is two things may be checked as the one and run
    as the other."""
    if looks.schema_version == 1 or _is_there(looks.fs_layers) or said.startswith(_SCHEMA_1):
        raise Invalid(
            "the image is in Docker's schema 1, which nobody writes any more and nothing verifies: "
            "push it again with a newer client"
        )
    as_index = _is_there(looks.manifests)
    as_manifest = _is_there(looks.layers) or _is_there(looks.config)
    if as_index == as_manifest:
        raise Invalid("the manifest is neither an image nor an index, or both: it is refused")
    kinds = INDEXES if as_index else MANIFESTS
    for claimed in (looks.media_type, said):
        if claimed in (*MANIFESTS, *INDEXES) and claimed not in kinds:
            raise Invalid(f"the manifest is called {claimed} and is none: it is refused")
    if looks.media_type and said in (*MANIFESTS, *INDEXES) and looks.media_type != said:
        raise Invalid(f"the manifest says it is {looks.media_type}, the registry says {said}: it is refused")
    media_type = looks.media_type or (said if said in kinds else kinds[0])
    if media_type not in kinds:
        raise Invalid(f"a manifest of the kind {media_type[:100]} cannot be pulled as an image")
    return media_type


def _is_there(field: msgspec.Raw) -> bool:
    return bytes(field) not in (b"", b"null")


def read_entries(raw: bytes) -> tuple[Entry, ...]:
    """The manifests of an index; raises Invalid."""
    try:
        return msgspec.json.decode(raw, type=_Index).manifests
    except msgspec.MsgspecError as error:
        raise Invalid(f"the image index cannot be read: {error}") from error


def read_tags(raw: bytes) -> tuple[str, ...]:
    """The tags on a page of a list; raises Invalid."""
    try:
        return msgspec.json.decode(raw, type=_Tags).tags or ()
    except msgspec.MsgspecError as error:
        raise Invalid(f"the list of tags cannot be read: {error}") from error


def media_type_of(raw: bytes) -> str:
    """What a stored manifest says it is; OCI when it does not say."""
    return msgspec.json.decode(raw, type=_Looks).media_type or OCI_MANIFEST


def check_platform(found: str, wanted: Wanted | None, name: str) -> None:
    """Raises NotFound, in Docker's words, when an image without an index is of another platform than asked.

    ``found``: ``os/arch`` of its configuration.
    """
    if wanted is not None and found != f"{wanted.os}/{wanted.architecture}":
        raise NotFound(
            f"image with reference {name} was found but its platform ({found}) does not match the "
            f"specified platform ({wanted})"
        )


def choose(entries: tuple[Entry, ...], wanted: Wanted) -> Entry:
    """The first that fits best.  Raises NotFound in Docker's words."""
    fitting = [(rank, each) for each in entries if (rank := _rank(each, wanted)) is not None]
    if not fitting:
        raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")
    return min(fitting, key=lambda pair: pair[0])[1]


def read_wanted(text: str, own: Wanted) -> Wanted:
    """``os/arch[/variant]`` or ``arch``; empty: this machine's.  Raises Invalid."""
    if not text:
        return own
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(part.replace("_", "").replace(".", "").isalnum() for part in parts):
        raise Invalid(f'"{text}": unknown operating system or architecture: invalid argument')
    if len(parts) == 1 or parts[0] in _ARCHITECTURES:
        parts = ["linux", *parts]
    arch = {"x86_64": "amd64", "aarch64": "arm64", "armhf": "arm"}.get(parts[1], parts[1])
    return Wanted(parts[0], arch, parts[2] if len(parts) == 3 else "")


def _rank(entry: Entry, wanted: Wanted) -> int | None:
    """How well it fits: 0 best, None not at all.  Attestations are of the platform unknown/unknown."""
    where = entry.platform
    if where is None or not where.os:
        is_other = "vnd.docker.reference.type" in entry.annotations or entry.artifact_type
        return None if is_other else 50
    if (where.os, where.architecture) != (wanted.os, wanted.architecture):
        return None
    have, want = _variant(where.architecture, where.variant), _variant(wanted.architecture, wanted.variant)
    if have == want or not wanted.variant:
        return abs(have - want)
    # A newer processor runs what was made for an older one.
    return 1 + want - have if 0 < have < want else None


def _variant(arch: str, text: str) -> int:
    """``v7`` as a number; what is meant when nothing is said."""
    number = text.removeprefix("v")
    return int(number) if number.isdecimal() else {"arm": 7, "arm64": 8, "amd64": 1}.get(arch, 0)


def is_foreign(media_type: str) -> bool:
    """A layer that its owner does not let be handed on."""
    return "nondistributable" in media_type or ".foreign." in media_type


def as_docker(raw: bytes) -> bytes | None:
    """The same image in Docker's media types; None when it cannot be said in them (zstd)."""
    manifest = read_manifest(raw)
    kinds = [_DOCKER_LAYERS.get(layer.media_type, layer.media_type) for layer in manifest.layers]
    if any(kind not in _DOCKER_LAYERS.values() for kind in kinds):
        return None
    layers = tuple(
        Descriptor(kind, layer.digest, layer.size) for kind, layer in zip(kinds, manifest.layers, strict=True)
    )
    config = Descriptor(_DOCKER_CONFIG, manifest.config.digest, manifest.config.size)
    return msgspec.json.encode(Manifest(2, config, layers, DOCKER_MANIFEST), order="sorted")


def layers_of(raw: bytes) -> tuple[str, ...]:
    """Digests of a manifest's layers."""
    return tuple(layer.digest for layer in read_manifest(raw).layers)
