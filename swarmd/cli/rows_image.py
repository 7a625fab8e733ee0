"""Images and their history as rows, and which of them a filter means.  Pure."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from swarmd.cli import states
from swarmd.cli.listing import Layout, Row
from swarmd.cli.table import ellipsis, truncate_id
from swarmd.cli.units import format_decimal

if TYPE_CHECKING:
    from swarmd.rpc.v1 import images_pb2, node_pb2

HEADERS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "Containers": "CONTAINERS",
}
IMAGES = Layout(("Repository", "Tag", "ID", "CreatedSince", "Size"), HEADERS)
WITH_DIGESTS = Layout(("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"), HEADERS)
_HISTORY = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
HISTORY = Layout(("ID", "CreatedSince", "CreatedBy", "Size", "Comment"), _HISTORY)
PLAIN_HISTORY = Layout(("ID", "CreatedAt", "CreatedBy", "Size", "Comment"), _HISTORY)
NONE = "<none>"
_MISSING = "<missing>"
_CREATED_BY_WIDTH = 45
_PIECE = re.compile(r"\[(\^?)((?:\\.|[^]\\])+)\]|\\.?|.", re.DOTALL)
"""One piece of a pattern: letters to choose from, an escape, or any other letter."""


class Name(NamedTuple):
    """What one row calls an image; parts that it has not are ``<none>``."""

    repository: str = NONE
    tag: str = NONE
    digest: str = NONE


def image_rows(
    images: Iterable[node_pb2.Image], now: float, *, truncate: bool = True, digests: bool = False
) -> list[Row]:
    """One row a name of an image, newest first; ``digests``: one a name and digest, as Docker has it."""
    return [
        _image_row(image, name, now, truncate)
        for image in sorted(images, key=lambda image: -image.created_at)
        for name in names(image, digests=digests)
    ]


def names(image: node_pb2.Image, *, digests: bool = False) -> list[Name]:
    """The names of an image, by repository; one of ``<none>`` for an image without any."""
    known: dict[str, list[str]] = {}
    for text in image.digests:
        repository, _, digest = text.partition("@")
        known.setdefault(states.familiar(repository), []).append(digest)
    found: list[Name] = []
    tagged = set()
    for ref in sorted(ref for ref in image.refs if "@" not in ref):
        repository, _, tag = states.familiar(ref).rpartition(":")
        tagged.add(repository)
        found += [
            Name(repository, tag, each) for each in (known.get(repository) if digests else None) or [NONE]
        ]
    for repository, each in known.items():
        if repository not in tagged:
            found += [Name(repository, NONE, digest) for digest in (each if digests else [NONE])]
    return found or [Name()]


def _image_row(image: node_pb2.Image, name: Name, now: float, truncate: bool) -> Row:
    return {
        "Repository": name.repository,
        "Tag": name.tag,
        "Digest": name.digest,
        "ID": truncate_id(image.id) if truncate else image.id,
        "CreatedSince": states.ago(image.created_at, now) if image.created_at else "N/A",
        "CreatedAt": go_time(image.created_at) if image.created_at else "N/A",
        "Size": format_decimal(image.size),
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": str(len(image.users)),
    }


def go_time(at: float) -> str:
    """``2026-01-02 15:04:05 +0000 UTC``, as Go prints a time."""
    return f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d %H:%M:%S} +0000 UTC"


def history_rows(
    entries: Iterable[images_pb2.HistoryEntry], now: float, *, truncate: bool = True, human: bool = True
) -> list[Row]:
    """One row a step, in the order given."""
    rows: list[Row] = []
    for entry in entries:
        by = entry.created_by.replace("\t", " ")
        identity = entry.id or _MISSING
        rows.append(
            {
                "ID": truncate_id(identity) if truncate else identity,
                "CreatedSince": states.ago(entry.created_at, now) if entry.created_at else "N/A",
                "CreatedAt": _moment(entry.created_at),
                "CreatedBy": ellipsis(by, _CREATED_BY_WIDTH) if truncate else by,
                "Size": format_decimal(entry.size) if human else str(entry.size),
                "Comment": entry.comment,
            }
        )
    return rows


def _moment(at: float) -> str:
    return f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%dT%H:%M:%S}Z" if at else "N/A"


# -- which images are meant ------------------------------------------------------------------------


def matching(image: node_pb2.Image, patterns: Sequence[str]) -> node_pb2.Image | None:
    """The image with only the names that one of ``patterns`` means; None when there are none."""
    if not patterns:
        return image
    refs = [ref for ref in image.refs if _means(patterns, ref)]
    digests = [digest for digest in image.digests if _means(patterns, digest)]
    if not refs and not digests:
        return None
    kept = type(image)()
    kept.CopyFrom(image)
    kept.refs[:], kept.digests[:] = refs, digests
    return kept


def is_dangling(image: node_pb2.Image) -> bool:
    """Whether no tag leads to it."""
    return all("@" in ref for ref in image.refs)


def _means(patterns: Sequence[str], ref: str) -> bool:
    familiar = states.familiar(ref)
    name = familiar.partition("@")[0]
    repository = name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name
    return any(go_match(pattern, text) for pattern in patterns for text in (familiar, repository))


def go_match(pattern: str, text: str) -> bool:
    r"""Go's ``path.Match``: ``*`` and ``?`` stop at slashes, ``[a-z]``, ``[^a]``, ``\`` escapes.

    A pattern that is none matches nothing.
    """
    try:
        return re.fullmatch(_PIECE.sub(_translated, pattern), text, re.DOTALL) is not None
    except re.error:
        return False


def _translated(piece: re.Match[str]) -> str:
    whole, negated, inside = piece[0], piece[1], piece[2]
    if inside:
        letters = re.sub(r"\\(.)|([^\w-])", lambda each: re.escape(each[1] or each[2]), inside)
        return f"[{negated}{letters}]"
    if whole == "[":
        return "(?!)"  # one that is not closed, or empty
    if whole[0] == "\\":
        return re.escape(whole[1:]) or "(?!)"
    return {"*": "[^/]*", "?": "[^/]"}.get(whole, re.escape(whole))
