"""What removing an image means: which names and contents go, and when it is refused.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

import msgspec

from swarmd.image.core.catalog import Catalog, ImageRow
from swarmd.model import image_ref
from swarmd.model.errors import Conflict, Invalid

InUse = Callable[[str], Sequence[str]]
Among = Container[str] | None


class Removal(msgspec.Struct, frozen=True):
    """One line of ``image rm``: a reference ``untagged``, or an image or layer ``deleted``."""

    untagged: str = ""
    deleted: str = ""


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


def plan_prune(
    catalog: Catalog, *, everything: bool, in_use: InUse, among: Among = None
) -> tuple[Catalog, tuple[Removal, ...]]:
    """Without the images nobody uses: those without a name, or with ``everything`` any of them.

    ``among``: only of these manifest digests; None: of all.
    """
    gone = [
        row
        for row in catalog.images.values()
        if (everything or not catalog.refs_of(row.digest))
        and (among is None or row.digest in among)
        and not in_use(row.digest)
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


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]
