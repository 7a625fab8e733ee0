"""Columns of text, laid out as Go's tab writer does for Docker: padded by 3, at least 10 wide.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MIN_WIDTH = 10
_PADDING = 3
_DIGITS = re.compile(r"(\d+)")


def layout(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of the rows.  The last cell of a row is not padded; all rows have the same number of cells."""
    if not rows:
        return []
    widths = [max(_MIN_WIDTH, *(len(row[i]) + _PADDING for row in rows)) for i in range(len(rows[0]) - 1)]
    return [
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + row[-1] for row in rows
    ]


def layout_lines(lines: Iterable[str]) -> list[str]:
    """Lines whose cells are separated by tabs, laid out."""
    return layout([line.split("\t") for line in lines])


def ellipsis(text: str, width: int) -> str:
    """``text``, or its first ``width`` - 1 characters and an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + "…"


def truncate_id(identity: str) -> str:
    """The 12 characters of an id that tables show."""
    return identity.removeprefix("sha256:")[:12]


def natural_key(text: str) -> tuple[tuple[bool, int, str], ...]:
    """Sort key: ``m2`` before ``m10``."""
    parts = (part for part in _DIGITS.split(text) if part)
    return tuple((not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts)
