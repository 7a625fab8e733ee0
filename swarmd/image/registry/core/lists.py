"""Answers that are lists: tags and repositories page by page, referrers as an index.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import urlencode

import msgspec

from swarmd.image.registry.core.pushed import INDEX
from swarmd.image.registry.core.refusals import Headers, Refusal
from swarmd.image.registry.port import Stored

MAX_PAGE = 10_000


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A manifest in a list of referrers."""

    media_type: str
    digest: str
    size: int
    artifact_type: str = ""
    annotations: dict[str, str] = {}


class _Index(msgspec.Struct, frozen=True, rename="camel"):
    schema_version: int
    media_type: str
    manifests: tuple[Descriptor, ...]


def page(items: Sequence[str], n: str, last: str) -> tuple[list[str], bool]:
    """At most ``n`` of the sorted ``items`` that come after ``last``, and whether there are more.

    Without ``n`` all of them.  Raises :class:`Refusal` for an ``n`` that is no number.
    """
    rest = [item for item in items if item > last] if last else list(items)
    if not n:
        return rest, False
    if not n.isascii() or not n.isdecimal() or len(n) > 18:
        raise Refusal("UNSUPPORTED", "n is no number", status=400, detail=n[:32])
    count = min(int(n), MAX_PAGE)
    return rest[:count], 0 < count < len(rest)


def link_to_next(path: str, n: str, shown: Sequence[str]) -> Headers:
    """The header that leads to the page after ``shown``."""
    query = urlencode({"n": min(int(n), MAX_PAGE), "last": shown[-1]})
    return (("Link", f'<{path}?{query}>; rel="next"'),)


def referrers(found: Iterable[Stored], artifact_type: str) -> bytes:
    """The index of manifests about another one; only those of ``artifact_type`` unless it is empty."""
    shown = (
        Descriptor(each.media_type, each.digest, len(each.data), each.artifact_type, each.annotations)
        for each in found
        if not artifact_type or each.artifact_type == artifact_type
    )
    return msgspec.json.encode(_Index(2, INDEX, tuple(shown)))
