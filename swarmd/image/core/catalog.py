"""Which images there are and what they are called: look-up and tags.

Pure and immutable: every change answers a new :class:`Catalog`; the shell writes it to disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from swarmd.image.core.config import read_config
from swarmd.image.core.manifest import Sha256, chain_ids, read_manifest, sha256
from swarmd.model import image_ref
from swarmd.model.errors import Invalid, NotFound

_HEX = re.compile(r"[a-f0-9]{1,64}")


class ImageRow(msgspec.Struct, frozen=True):
    """One stored image.  ``digest`` names the manifest, ``id`` the configuration, ``layers`` the blobs."""

    digest: Sha256
    id: Sha256
    layers: tuple[Sha256, ...]
    diff_ids: tuple[Sha256, ...]
    size: int
    created: float


class ImageInfo(msgspec.Struct, frozen=True):
    """An image as a user sees it.

    ``refs`` are familiar (``nginx:1.12``), ``size`` is bytes of content as stored, ``created`` is
    seconds since 1970 (0: unknown), ``indexes`` digests of the indexes it was chosen from.
    """

    id: str
    digest: str
    refs: tuple[str, ...]
    created: float
    size: int
    indexes: tuple[str, ...] = ()


class Catalog(msgspec.Struct, frozen=True):
    """Images by manifest digest, and familiar references to them.

    ``indexes``: the image chosen from each; ``layers``: the diffID each blob was seen to unpack to.
    """

    images: dict[Sha256, ImageRow] = {}
    refs: dict[str, Sha256] = {}
    indexes: dict[str, Sha256] = {}
    layers: dict[str, Sha256] = {}

    def refs_of(self, digest: str) -> tuple[str, ...]:
        """The references to one image, sorted."""
        return tuple(sorted(ref for ref, target in self.refs.items() if target == digest))

    def info(self, row: ImageRow) -> ImageInfo:
        """What a user is told about ``row``."""
        indexes = tuple(sorted(index for index, chosen in self.indexes.items() if chosen == row.digest))
        return ImageInfo(row.id, row.digest, self.refs_of(row.digest), row.created, row.size, indexes)

    def find(self, text: str) -> ImageRow:
        """By reference, manifest digest, image id, or the beginning of an id.

        Raises :class:`NotFound` (``No such image: ...``), :class:`Invalid` for an ambiguous beginning.
        """
        digest = self._digest_of_ref(text)
        digest = self.indexes.get(digest, digest)
        if digest in self.images:
            return self.images[digest]
        return self._by_id(text)

    def add(self, row: ImageRow, refs: Iterable[str] = (), *, index: str = "") -> Catalog:
        """With ``row``, each familiar reference pointing to it, and the index it was chosen from."""
        return Catalog(
            self.images | {row.digest: row},
            self.refs | dict.fromkeys(refs, row.digest),
            self.indexes | ({index: row.digest} if index else {}),
            self.layers | dict(zip(row.layers, row.diff_ids, strict=True)),
        )

    def without(self, digests: Iterable[str], refs: Iterable[str] = ()) -> Catalog:
        """Without these images, every reference to them, and these references."""
        gone, untagged = set(digests), set(refs)
        return Catalog(
            {digest: row for digest, row in self.images.items() if digest not in gone},
            {ref: to for ref, to in self.refs.items() if to not in gone and ref not in untagged},
            {index: chosen for index, chosen in self.indexes.items() if chosen not in gone},
            self.layers,
        )

    def seen(self, digest: str, diff_id: str) -> Catalog:
        """Knowing that the blob ``digest`` unpacks to ``diff_id``."""
        return msgspec.structs.replace(self, layers=self.layers | {digest: diff_id})

    def lost(self, digests: Iterable[str]) -> Catalog:
        """Without what is known of blobs that are gone; no image needs them."""
        gone = set(digests)
        return msgspec.structs.replace(
            self,
            indexes={index: to for index, to in self.indexes.items() if index not in gone},
            layers={blob: diff_id for blob, diff_id in self.layers.items() if blob not in gone},
        )

    def blobs(self) -> frozenset[str]:
        """Every blob some image needs."""
        rows = (blob for row in self.images.values() for blob in (row.digest, row.id, *row.layers))
        return frozenset((*rows, *self.indexes))

    def pairs(self) -> frozenset[tuple[str, str]]:
        """Which blob is known to unpack to which diffID."""
        rows = (pair for row in self.images.values() for pair in zip(row.layers, row.diff_ids, strict=True))
        return frozenset((*rows, *self.layers.items()))

    def trees(self) -> frozenset[str]:
        """The directory names (see :func:`tree_names`) some image may use."""
        return frozenset(
            name for row in self.images.values() for pair in tree_names(row.diff_ids) for name in pair
        )

    def _digest_of_ref(self, text: str) -> str:
        if image_ref.is_digest(text):
            return text
        try:
            ref = image_ref.parse(text)
        except Invalid:
            if _HEX.fullmatch(text):
                return ""
            raise
        return ref.digest or self.refs.get(ref.familiar(), "")

    def _by_id(self, text: str) -> ImageRow:
        start = text.removeprefix("sha256:")
        ids = {row.id for row in self.images.values() if row.id.removeprefix("sha256:").startswith(start)}
        if not _HEX.fullmatch(start) or not ids:
            raise NotFound(f"No such image: {_complete(text)}")
        if len(ids) > 1:
            raise Invalid(f"image id {text} is ambiguous: {len(ids)} images begin with it; give more digits")
        return next(row for _, row in sorted(self.images.items()) if row.id in ids)


def row_for(manifest: bytes, config: bytes) -> ImageRow:
    """The row of an image by its two documents; raises :class:`Invalid` when they do not fit."""
    parsed, document = read_manifest(manifest), read_config(config)
    if sha256(config) != parsed.config.digest or len(config) != parsed.config.size:
        raise Invalid(
            f"the image's configuration is damaged: it is {sha256(config)}, not {parsed.config.digest}"
        )
    if len(document.diff_ids) != len(parsed.layers):
        raise Invalid(
            f"the image is inconsistent: its manifest has {len(parsed.layers)} layers, "
            f"its configuration {len(document.diff_ids)}"
        )
    return ImageRow(
        digest=sha256(manifest),
        id=parsed.config.digest,
        layers=tuple(layer.digest for layer in parsed.layers),
        diff_ids=document.diff_ids,
        size=sum(blob.size for blob in parsed.blobs()),
        created=document.created,
    )


def tree_names(diff_ids: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """For each layer, bottom first: its directory if it stands alone, and if it leans on those below.

    A layer is the same tree on every base, unless it has hard links into lower layers or lacks parent
    directories whose owner and mode are those below.
    """
    return tuple(
        (diff_id.removeprefix("sha256:"), f"chain-{chain.removeprefix('sha256:')}")
        for diff_id, chain in zip(diff_ids, chain_ids(diff_ids), strict=True)
    )


def tag_name(ref: str) -> str:
    """A reference that may be a tag, in its familiar form; raises :class:`Invalid`."""
    parsed = image_ref.parse(ref)
    if parsed.digest:
        raise Invalid(f"refusing to create a tag with a digest reference: {ref}; leave out @{parsed.digest}")
    return parsed.familiar()


def kept_name(ref: str) -> str:
    """The name under which a fetched image is kept: a digest reference moves no tag."""
    parsed = image_ref.parse(ref)
    return f"{parsed.familiar_name()}@{parsed.digest}" if parsed.digest else parsed.familiar()


def _complete(text: str) -> str:
    if text.startswith("sha256:"):
        return text
    try:
        return image_ref.parse(text).familiar()
    except Invalid:
        return text
