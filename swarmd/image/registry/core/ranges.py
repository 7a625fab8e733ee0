"""Parts of blobs: what a ``Range`` asks for, and where a piece of an upload belongs.  Pure."""

from __future__ import annotations

import re

import msgspec

from swarmd.image.registry.core.refusals import Headers, Refusal

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?(\d{1,18})-(\d{1,18})(?:/(?:\d{1,18}|\*))?", re.ASCII)


class Span(msgspec.Struct, frozen=True):
    """``size`` bytes from ``offset``."""

    offset: int
    size: int


def wanted(header: str, size: int) -> Span | None:
    """The part of ``size`` bytes that a ``Range`` header asks for; None for all of it.

    Several ranges, and units that are not bytes, are answered with everything, which HTTP allows.
    Raises :class:`Refusal` (416) for a range that is not in it.
    """
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        first, last = size - length, size - 1
    else:
        first = int(match[1])
        last = min(int(match[2]), size - 1) if match[2] else size - 1
    if first > last or first >= size:
        raise Refusal(
            "SIZE_INVALID",
            f"the range is not in the blob, which has {size} bytes",
            status=416,
            headers=(("Content-Range", f"bytes */{size}"),),
        )
    return Span(first, last - first + 1)


def check_piece(content_range: str, content_length: int | None, offset: int, headers: Headers) -> None:
    """Whether a piece of an upload belongs behind the ``offset`` bytes that are there.

    Raises :class:`Refusal`: 416 with ``headers`` for one that is out of order, 400 for a length that is
    not the range's.  Without a range it belongs there.
    """
    if not content_range:
        return
    match = _CONTENT_RANGE.fullmatch(content_range.strip())
    if match is None:
        raise Refusal(
            "BLOB_UPLOAD_INVALID",
            "the Content-Range is not of the form FIRST-LAST",
            status=416,
            headers=headers,
            detail=content_range[:64],
        )
    first, last = int(match[1]), int(match[2])
    if first != offset or last < first:
        raise Refusal(
            "BLOB_UPLOAD_INVALID",
            f"the piece {first}-{last} is out of order: the next byte is number {offset}",
            status=416,
            headers=headers,
        )
    if content_length is not None and content_length != last - first + 1:
        raise Refusal(
            "SIZE_INVALID",
            f"the piece is said to be {last - first + 1} bytes by Content-Range, {content_length} by "
            "Content-Length",
        )


def received(offset: int) -> str:
    """The ``Range`` header that says what of an upload is there."""
    return f"0-{max(0, offset - 1)}"
