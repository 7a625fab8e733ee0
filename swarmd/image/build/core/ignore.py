"""What a .dockerignore keeps out of the context: the last line that fits decides.  Pure.

A line fits a path if it fits the path or a directory above it; ``!`` takes back what was kept out before.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from swarmd.image.build.core.match import compiled, has_wildcards, plain
from swarmd.model.errors import Invalid

FILE = ".dockerignore"


def read_ignore(content: bytes) -> tuple[str, ...]:
    """The patterns of a .dockerignore: without comments, empty lines and needless slashes."""
    text = content.decode("utf-8-sig", "replace")
    rows = (row for row in text.split("\n") if not row.startswith("#"))
    return tuple(pattern for row in rows if (pattern := _cleaned(row.strip())))


def _cleaned(row: str) -> str:
    negated, pattern = ("!", row[1:].strip()) if row.startswith("!") else ("", row)
    if not pattern:
        return negated
    path = posixpath.normpath(pattern)
    # Two slashes at the beginning are kept by POSIX.
    path = path.lstrip("/") or "/"
    return negated + path


class Ignore:
    """The patterns, ready to be asked about paths (relative, with ``/``)."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raises Invalid for a pattern that is none."""
        self._patterns: list[tuple[bool, re.Pattern[str]]] = []
        self._exceptions: list[str] = []
        for row in patterns:
            pattern = _cleaned(row.strip())
            if pattern == "!":
                raise Invalid('illegal exclusion pattern: "!"')
            negated = pattern.startswith("!")
            pattern = pattern.removeprefix("!")
            if not pattern:
                continue
            compiled(pattern)  # Go refuses what is wrong without the deep form too
            self._patterns.append((negated, compiled(pattern, deep=True)))
            if negated:
                self._exceptions.append(pattern)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def ignores(self, path: str) -> bool:
        """Whether that path stays out."""
        path = path.strip("/") or "/"
        ends = [at for at, char in enumerate(path) if char == "/" and at]
        candidates = [path, *(path[:end] for end in ends)]
        out = False
        for negated, pattern in self._patterns:
            if negated == out and any(pattern.fullmatch(candidate) for candidate in candidates):
                out = not negated
        return out

    def may_hold(self, directory: str) -> bool:
        """Whether a directory that stays out may hold something that does not: only then look into it."""
        prefix = directory.strip("/").split("/")
        return any(_reaches(exception.split("/"), prefix) for exception in self._exceptions)


def _reaches(pattern: list[str], prefix: list[str]) -> bool:
    """Whether something below that directory could fit the pattern."""
    for part, name in zip(pattern, prefix, strict=False):
        if "**" in part:
            return True
        if has_wildcards(part):
            if not compiled(part).fullmatch(name):
                return False
        elif plain(part) != name:
            return False
    return True
