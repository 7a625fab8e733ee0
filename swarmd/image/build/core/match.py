"""Patterns for names of files, as Go's ``filepath.Match`` reads them, and with ``**``.  Pure.

    *  any text without /      ?  one character but /      [a-z] [^a-z]  one of (none of) those
**  any number of directories (only where ``deep`` asks for it: .dockerignore and --exclude)
"""

from __future__ import annotations

import re
from functools import lru_cache

from swarmd.model.errors import Invalid

_CLASS_CHAR = r"(?:\\.|[^\\\]\-])"
_CLASS = rf"\[(\^?)((?:{_CLASS_CHAR}(?:-{_CLASS_CHAR})?)+)\]"
_RANGE = rf"({_CLASS_CHAR})(?:-({_CLASS_CHAR}))?"


def has_wildcards(pattern: str) -> bool:
    """Whether it means anything but one name."""
    return re.search(r"[*?\[]", re.sub(r"\\.", "", pattern, flags=re.DOTALL)) is not None


def plain(pattern: str) -> str:
    """The name that a pattern without wildcards means: ``\\x`` is x."""
    return re.sub(r"\\(.)", r"\1", pattern, flags=re.DOTALL)


def matches(pattern: str, name: str) -> bool:
    """Whether the whole name fits, ``/`` by ``/``.  Raises Invalid for a pattern that is none."""
    return compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=512)
def compiled(pattern: str, *, deep: bool = False) -> re.Pattern[str]:
    """The pattern as an expression for whole names.  Raises Invalid."""
    out, at = "", 0
    while at < len(pattern):
        piece, at = _piece(pattern, at, deep)
        out += piece
    return re.compile(out, re.DOTALL)


def _piece(pattern: str, at: int, deep: bool) -> tuple[str, int]:
    char = pattern[at]
    if deep and pattern.startswith("**", at):
        return _deep(pattern, at + 2)
    if char == "*":
        return "[^/]*", at + 1
    if char == "?":
        return "[^/]", at + 1
    if char == "\\":
        if at + 1 == len(pattern):
            raise _bad(pattern)
        return re.escape(pattern[at + 1]), at + 2
    if char != "[":
        return re.escape(char), at + 1
    found = re.compile(_CLASS, re.DOTALL).match(pattern, at)
    if found is None:
        raise _bad(pattern)
    return _class(found[1], found[2]), found.end()


def _deep(pattern: str, at: int) -> tuple[str, int]:
    """What ``**`` means, with the ``/`` behind it: none, or whole directories, or the rest of the name."""
    if pattern.startswith("/", at):
        at += 1
    return (".*", at) if at == len(pattern) else ("(?:.*/)?", at)


def _class(negated: str, content: str) -> str:
    parts: list[str] = []
    for low, high in re.findall(_RANGE, content, re.DOTALL):
        first = low[-1]
        last = high[-1] if high else first
        if first <= last:
            parts.append(f"{re.escape(first)}-{re.escape(last)}")
    if not parts:  # a range from high to low holds nothing
        return "." if negated else "(?!)"
    return f"[{negated}{''.join(parts)}]"


def _bad(pattern: str) -> Invalid:
    return Invalid(f"syntax error in pattern {pattern!r}")
