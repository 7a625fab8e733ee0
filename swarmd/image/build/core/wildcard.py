"""Patterns of ``${x#pattern}`` and its kin: ``*`` is any text, ``?`` one character.  Pure."""

from __future__ import annotations

import re

Pattern = tuple[str, ...]

_ANY, _ONE = "*", "?"


def read(text: str) -> Pattern:
    """``*``, ``?`` and expressions for one character each, in order; raises ValueError for a bad escape."""
    out: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char != "\\":
            out.append(char if char in "*?" else re.escape(char))
            continue
        following = text[at : at + 1]
        if following in ("}", "/") and following:
            continue  # escaped only so that it does not end the pattern
        if following not in ("*", "?", "\\"):
            raise ValueError(f"invalid escape '\\{following}'")
        out.append(re.escape(following))
        at += 1
    return tuple(out)


def trim(value: str, pattern: Pattern, *, suffix: bool, longest: bool) -> str:
    """The value without its shortest (or longest) beginning, or end, that the pattern fits."""
    # The shortest end is the shortest beginning of both written backwards: expressions look from the left.
    if suffix:
        return trim(value[::-1], pattern[::-1], suffix=False, longest=longest)[::-1]
    found = _compiled(pattern, longest=longest).match(value)
    return value[found.end() :] if found else value


def replace(value: str, pattern: Pattern, new: str, *, everywhere: bool) -> str:
    """The value with what the pattern fits (first, or everywhere) replaced."""
    return _compiled(pattern, longest=True).sub(lambda _: new, value, count=0 if everywhere else 1)


def _compiled(pattern: Pattern, *, longest: bool) -> re.Pattern[str]:
    star = ".*" if longest else ".*?"
    return re.compile("".join({_ANY: star, _ONE: "."}.get(part, part) for part in pattern))
