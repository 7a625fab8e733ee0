"""What an image archive holds: ``docker save`` (old and new form) and OCI layouts.

Pure.  The shell has read the tar once and hands over names, digests and a way to read small files;
this answers manifests and names.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable

import msgspec

from swarmd.image.core.config import MAX_CONFIG
from swarmd.image.core.manifest import (
    MAX_MANIFEST,
    Descriptor,
    is_index,
    layer_descriptor,
    read_index,
    read_manifest,
    write_manifest,
)
from swarmd.model import image_ref
from swarmd.model.errors import Invalid

_MAX_LINKS = 16
_MAX_NESTING = 4
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\0": "xz"}
FULL_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"


class Member(msgspec.Struct, frozen=True):
    """A regular file of the archive: digest and size in bytes of its content, and its first bytes."""

    digest: str
    size: int
    magic: bytes


class Contents(msgspec.Struct, frozen=True):
    """The archive's regular files and links, by normalised name."""

    files: dict[str, Member]
    links: dict[str, str]

    def get(self, name: str) -> Member | None:
        """The file ``name`` is or points to; None when there is none."""
        name = _normal(name)
        for _ in range(_MAX_LINKS):
            if name not in self.links:
                return self.files.get(name)
            name = self.links[name]
        return None

    def need(self, name: str) -> Member:
        """The file ``name``; raises :class:`Invalid` when the archive lacks it."""
        found = self.get(name)
        if found is None:
            raise Invalid(f"the image archive lacks {name}, which it refers to: it is incomplete")
        return found


class Found(msgspec.Struct, frozen=True):
    """One image: its manifest's exact bytes and the familiar references it is to have."""

    manifest: bytes
    refs: tuple[str, ...]


ReadFile = Callable[[Member], bytes]


class _SavedImage(msgspec.Struct, frozen=True, rename="pascal"):
    config: str
    layers: tuple[str, ...]
    repo_tags: tuple[str, ...] | None = None


def compression_of(magic: bytes) -> str:
    """``gzip``, ``zstd``, ``xz``, ``bzip2`` by a stream's first bytes; empty for anything else."""
    if magic.startswith(b"BZh") and magic[4:6] == b"1A":
        return "bzip2"
    return next((name for start, name in _MAGIC.items() if magic.startswith(start)), "")


def link_name(name: str, target: str, *, symbolic: bool) -> str:
    """Where a link in the archive points, as a name in the archive."""
    return _normal(posixpath.join(posixpath.dirname(name), target) if symbolic else target)


def find_images(contents: Contents, read: ReadFile, arch: str) -> tuple[Found, ...]:
    """The images in an archive, in its order; raises :class:`Invalid` when it is no image archive.

    ``arch`` (Go's name) chooses among the manifests of an index.
    """
    saved = contents.get("manifest.json")
    index = contents.get("index.json")
    if index is not None and contents.get("oci-layout") is not None:
        more = _saved_names(_read_saved(saved, read), contents) if saved is not None else {}
        return _from_layout(contents, read, index, arch, more)
    if saved is None:
        raise Invalid(
            "this is not an image archive: it has neither manifest.json nor index.json with oci-layout"
        )
    return tuple(_from_saved(contents, read, each) for each in _read_saved(saved, read))


def _read_saved(member: Member, read: ReadFile) -> tuple[_SavedImage, ...]:
    try:
        return msgspec.json.decode(_small(member, read), type=tuple[_SavedImage, ...])
    except msgspec.MsgspecError as error:
        raise Invalid(f"the image archive's manifest.json cannot be read: {error}") from error


def _from_saved(contents: Contents, read: ReadFile, image: _SavedImage) -> Found:
    config = contents.need(image.config)
    if config.size > MAX_CONFIG:
        raise Invalid(f"an image configuration of {config.size} bytes is refused: the limit is {MAX_CONFIG}")
    layers = (contents.need(name) for name in image.layers)
    manifest = write_manifest(
        read(config),
        tuple(layer_descriptor(layer.digest, layer.size, compression_of(layer.magic)) for layer in layers),
    )
    return Found(manifest, _familiar(image.repo_tags or ()))


def _saved_names(images: tuple[_SavedImage, ...], contents: Contents) -> dict[str, tuple[str, ...]]:
    """References by image id."""
    return {contents.need(image.config).digest: _familiar(image.repo_tags or ()) for image in images}


def _from_layout(
    contents: Contents, read: ReadFile, index: Member, arch: str, more: dict[str, tuple[str, ...]]
) -> tuple[Found, ...]:
    found: dict[bytes, tuple[str, ...]] = {}
    for entry in read_index(_small(index, read)).manifests:
        raw = _manifest_for(contents, read, entry, arch, _MAX_NESTING)
        if raw is None:
            continue
        names = (*found.get(raw, ()), *_names(entry), *more.get(read_manifest(raw).config.digest, ()))
        found[raw] = tuple(dict.fromkeys(names))
    if not found:
        raise Invalid(f"the image archive holds no image for linux/{arch}")
    return tuple(Found(raw, names) for raw, names in found.items())


def _manifest_for(
    contents: Contents, read: ReadFile, entry: Descriptor, arch: str, depth: int
) -> bytes | None:
    """The manifest an index entry leads to on this architecture; None when it has none."""
    raw = _blob(contents, read, entry)
    if not is_index(entry):
        return raw
    if depth == 0:
        raise Invalid("the image archive's indexes are nested too deeply")
    for child in read_index(raw).choose(arch):
        if contents.get(_path(child.digest)) is not None:
            return _manifest_for(contents, read, child, arch, depth - 1)
    return None


def _blob(contents: Contents, read: ReadFile, entry: Descriptor) -> bytes:
    member = contents.need(_path(entry.digest))
    if (member.digest, member.size) != (entry.digest, entry.size):
        raise Invalid(
            f"the image archive is damaged: {_path(entry.digest)} holds {member.digest} "
            f"({member.size} bytes), not {entry.digest} ({entry.size} bytes)"
        )
    return _small(member, read)


def _small(member: Member, read: ReadFile) -> bytes:
    if member.size > MAX_MANIFEST:
        raise Invalid(f"a manifest of {member.size} bytes is refused: the limit is {MAX_MANIFEST}")
    return read(member)


def _names(entry: Descriptor) -> tuple[str, ...]:
    """The full name if a tool wrote one; a bare tag names nothing."""
    notes = entry.annotations or {}
    name = notes.get(FULL_NAME, "") or notes.get(REF_NAME, "")
    return _familiar((name,)) if ":" in name or "/" in name else ()


def _familiar(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(image_ref.parse(name).familiar() for name in names)


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _normal(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")
