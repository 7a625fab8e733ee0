"""What ``image save`` writes: an OCI layout that is a docker-archive as well.  Pure.

::

    blobs/sha256/<hex>   configurations, manifests and layers, as they are stored: digests stay what they are
    index.json oci-layout                  for readers of OCI layouts
    manifest.json repositories             for ``docker load`` and readers of docker-archives
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from swarmd.image.core.archive import FULL_NAME, REF_NAME
from swarmd.image.core.catalog import Catalog, ImageRow
from swarmd.image.core.manifest import INDEX, MANIFEST, Descriptor, Manifest
from swarmd.model import image_ref
from swarmd.model.errors import Invalid


class Chosen(msgspec.Struct, frozen=True):
    """An image to save, and the familiar tags it is saved with."""

    row: ImageRow
    tags: tuple[str, ...]


class _Entry(msgspec.Struct, frozen=True, rename="pascal"):
    config: str
    repo_tags: tuple[str, ...] | None
    layers: tuple[str, ...]
    layer_sources: dict[str, Descriptor]


class _Index(msgspec.Struct, frozen=True, rename="camel"):
    schema_version: int
    media_type: str
    manifests: tuple[Descriptor, ...]


def choose(catalog: Catalog, texts: tuple[str, ...]) -> tuple[Chosen, ...]:
    """What to save: a tag, an id (without tags), or a repository with all its tags.

    Raises :class:`NotFound` for what is not there, :class:`Invalid` when nothing is asked for.
    """
    if not texts:
        raise Invalid("save needs at least one image")
    tags: dict[str, dict[str, None]] = {}
    for text in texts:
        for digest, names in _meant(catalog, text):
            tags.setdefault(digest, {}).update(dict.fromkeys(names))
    return tuple(Chosen(catalog.images[digest], tuple(names)) for digest, names in tags.items())


def _meant(catalog: Catalog, text: str) -> list[tuple[str, tuple[str, ...]]]:
    name = text.rsplit("/", 1)[-1]
    if ":" not in name and "@" not in name:
        try:
            repository = image_ref.parse(text).name
        except Invalid:  # digits, as an id may be
            repository = ""
        refs = sorted(ref for ref in catalog.refs if _is_tag_of(ref, repository))
        found: list[tuple[str, tuple[str, ...]]] = [(catalog.refs[ref], (ref,)) for ref in refs]
        if found:
            return found
    row = catalog.find(text)
    try:
        tag = image_ref.parse(text)
    except Invalid:
        return [(row.digest, ())]
    named = not tag.digest and catalog.refs.get(tag.familiar()) == row.digest
    return [(row.digest, (tag.familiar(),) if named else ())]


def _is_tag_of(ref: str, repository: str) -> bool:
    return "@" not in ref and image_ref.parse(ref).name == repository


def documents(chosen: tuple[Chosen, ...], manifests: Mapping[str, tuple[Manifest, int]]) -> dict[str, bytes]:
    """The files beside the blobs; ``manifests`` by digest: each read, with its size in bytes."""
    entries, described = list[_Entry](), list[Descriptor]()
    repositories: dict[str, dict[str, str]] = {}
    for each in chosen:
        manifest, size = manifests[each.row.digest]
        sources = dict(zip(each.row.diff_ids, manifest.layers, strict=True))
        layers = tuple(blob_name(layer.digest) for layer in manifest.layers)
        entries.append(_Entry(blob_name(each.row.id), each.tags or None, layers, sources))
        top = each.row.layers[-1].partition(":")[2] if each.row.layers else ""
        kind = manifest.media_type or MANIFEST
        described += [
            Descriptor(kind, each.row.digest, size, annotations=notes) for notes in _annotations(each.tags)
        ]
        for tag in each.tags:
            ref = image_ref.parse(tag)
            repositories.setdefault(ref.familiar_name(), {})[ref.tag] = top
    files = {
        "index.json": msgspec.json.encode(_Index(2, INDEX, tuple(described))),
        "manifest.json": msgspec.json.encode(entries),
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
    }
    return files | ({"repositories": msgspec.json.encode(repositories)} if repositories else {})


def _annotations(tags: tuple[str, ...]) -> list[dict[str, str] | None]:
    """For each tag what names it in an index; an image without one is there once."""
    refs = [image_ref.parse(tag) for tag in tags]
    return [{FULL_NAME: str(ref), REF_NAME: ref.tag} for ref in refs] or [None]


def blob_name(digest: str) -> str:
    """The file of a blob in a layout."""
    return "blobs/" + digest.replace(":", "/")
