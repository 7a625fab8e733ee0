"""Which images there are and what they are called: look-up, tags, and what removing one means.

Pure and immutable: every change answers a new :class:`Catalog`; the shell writes it to disk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import msgspec

from swarmd.image.core.config import read_config
from swarmd.image.core.manifest import Sha256, chain_ids, read_manifest, sha256
from swarmd.model import image_ref
from swarmd.model.errors import Conflict, Invalid, NotFound

InUse = Callable[[str], Sequence[str]]
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
    seconds since 1970 (0: unknown).
    """

    id: str
    digest: str
    refs: tuple[str, ...]
    created: float
    size: int


class Removal(msgspec.Struct, frozen=True):
    """One line of ``image rm``: a reference ``untagged``, or an image or layer ``deleted``."""

    untagged: str = ""
    deleted: str = ""


class Catalog(msgspec.Struct, frozen=True):
    """Images by manifest digest, and familiar references to them."""

    images: dict[Sha256, ImageRow] = {}
    refs: dict[str, Sha256] = {}

    def refs_of(self, digest: str) -> tuple[str, ...]:
        """The references to one image, sorted."""
        return tuple(sorted(ref for ref, target in self.refs.items() if target == digest))

    def info(self, row: ImageRow) -> ImageInfo:
        """What a user is told about ``row``."""
        return ImageInfo(row.id, row.digest, self.refs_of(row.digest), row.created, row.size)

    def find(self, text: str) -> ImageRow:
        """By reference, manifest digest, image id, or the beginning of an id.

        Raises :class:`NotFound` (``No such image: ...``), :class:`Invalid` for an ambiguous beginning.
        """
        digest = self._digest_of_ref(text)
        if digest in self.images:
            return self.images[digest]
        return self._by_id(text)

    def add(self, row: ImageRow, refs: Iterable[str] = ()) -> Catalog:
        """With ``row``, and each familiar reference pointing to it."""
        return Catalog(self.images | {row.digest: row}, self.refs | dict.fromkeys(refs, row.digest))

    def without(self, digests: Iterable[str], refs: Iterable[str] = ()) -> Catalog:
        """Without these images, every reference to them, and these references."""
        gone, untagged = set(digests), set(refs)
        return Catalog(
            {digest: row for digest, row in self.images.items() if digest not in gone},
            {ref: to for ref, to in self.refs.items() if to not in gone and ref not in untagged},
        )

    def blobs(self) -> frozenset[str]:
        """Every blob some image needs."""
        return frozenset(blob for row in self.images.values() for blob in (row.digest, row.id, *row.layers))

    def pairs(self) -> frozenset[tuple[str, str]]:
        """Which blob is known to unpack to which diffID."""
        return frozenset(
            pair for row in self.images.values() for pair in zip(row.layers, row.diff_ids, strict=True)
        )

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


def plan_removal(
    catalog: Catalog, text: str, *, force: bool, in_use: InUse
) -> tuple[Catalog, tuple[Removal, ...]]:
    """What ``image rm text`` leaves and reports.

    ``in_use(manifest digest)`` names the containers that use an image.  Raises :class:`Conflict` in
    Docker's words where it must be forced, or cannot be.
    """
    row = catalog.find(text)
    named = _reference(catalog, text)
    if named:
        return _remove_name(catalog, row, named, force=force, users=in_use(row.digest))
    return _remove_id(catalog, row, force=force, in_use=in_use)


def plan_prune(catalog: Catalog, *, everything: bool, in_use: InUse) -> tuple[Catalog, tuple[Removal, ...]]:
    """Without the images nobody uses: those without a name, or with ``everything`` any of them."""
    gone = [
        row
        for row in catalog.images.values()
        if (everything or not catalog.refs_of(row.digest)) and not in_use(row.digest)
    ]
    refs = [ref for row in gone for ref in catalog.refs_of(row.digest)]
    return _delete(catalog, gone, refs)


def _remove_name(
    catalog: Catalog, row: ImageRow, ref: str, *, force: bool, users: Sequence[str]
) -> tuple[Catalog, tuple[Removal, ...]]:
    name = image_ref.parse(ref).name
    pins = [other for other in catalog.refs_of(row.digest) if "@" in other and _named(other, name)]
    others = set(catalog.refs_of(row.digest)) - {ref, *pins}
    if others:
        return catalog.without((), (ref,)), (Removal(untagged=ref),)
    if users and not force:
        raise Conflict(
            f'conflict: unable to remove repository reference "{ref}" (must force) - '
            f"container {users[0]} is using its referenced image {_short(row.id)}"
        )
    refs = [ref, *(pin for pin in pins if pin != ref)]
    if users:
        return catalog.without((), refs), tuple(Removal(untagged=each) for each in refs)
    return _delete(catalog, [row], refs)


def _remove_id(
    catalog: Catalog, row: ImageRow, *, force: bool, in_use: InUse
) -> tuple[Catalog, tuple[Removal, ...]]:
    rows = [each for each in catalog.images.values() if each.id == row.id]
    refs = sorted(ref for each in rows for ref in catalog.refs_of(each.digest))
    if len({image_ref.parse(ref).name for ref in refs}) > 1 and not force:
        raise Conflict(
            f"conflict: unable to delete {_short(row.id)} (must be forced) - "
            "image is referenced in multiple repositories"
        )
    for each in rows:
        if users := in_use(each.digest):
            raise Conflict(
                f"conflict: unable to delete {_short(row.id)} (cannot be forced) - "
                f"image is being used by running container {users[0]}"
            )
    return _delete(catalog, rows, refs)


def _delete(catalog: Catalog, rows: list[ImageRow], refs: list[str]) -> tuple[Catalog, tuple[Removal, ...]]:
    left = catalog.without((row.digest for row in rows), refs)
    kept_ids = {row.id for row in left.images.values()}
    kept_layers = {diff_id for row in left.images.values() for diff_id in row.diff_ids}
    layers = dict.fromkeys(diff_id for row in rows for diff_id in reversed(row.diff_ids))
    deleted = [
        *(each for each in dict.fromkeys(row.id for row in rows) if each not in kept_ids),
        *(each for each in layers if each not in kept_layers),
    ]
    return left, (
        *(Removal(untagged=ref) for ref in refs),
        *(Removal(deleted=each) for each in deleted),
    )


def _reference(catalog: Catalog, text: str) -> str:
    """``text`` in the form it has among the references; empty when it is none of them."""
    try:
        ref = image_ref.parse(text).familiar()
    except Invalid:
        return ""
    return ref if ref in catalog.refs else ""


def _named(ref: str, name: str) -> bool:
    return image_ref.parse(ref).name == name


def _complete(text: str) -> str:
    if text.startswith("sha256:"):
        return text
    try:
        return image_ref.parse(text).familiar()
    except Invalid:
        return text


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]
