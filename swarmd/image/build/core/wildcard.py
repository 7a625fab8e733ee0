"""Patterns of ``${x#pattern}`` and its kin: ``*`` is any text, ``?`` one character.  Pure.

A pattern is what stands between its stars.  Each piece has one length and is looked for after the one before,
so that no pattern takes more than a few passes over the value, as one expression with many stars would.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Pattern = tuple[tuple[str, ...], ...]

_ONE = "?"


def read(text: str) -> Pattern:
    """The pieces between the stars, an expression for each character; raises ValueError for a bad escape."""
    pieces: list[tuple[str, ...]] = [()]
    at = 0
    while at < len(text):
        char, following = text[at], text[at + 1 : at + 2]
        at += 1
        if char == "*":
            pieces.append(())
        elif char != "\\":
            pieces[-1] += ("." if char == _ONE else re.escape(char),)
        elif following not in ("}", "/"):  # those are escaped only so that they do not end the pattern
            if following not in ("*", _ONE, "\\"):
                raise ValueError(f"invalid escape '\\{following}'")
            pieces[-1] += (re.escape(following),)
            at += 1
    return tuple(pieces)


def trim(value: str, pattern: Pattern, *, suffix: bool, longest: bool) -> str:
    """The value without its shortest (or longest) beginning, or end, that the pattern fits."""
    if suffix:
        # An end is the beginning of both written backwards: pieces are looked for from the left.
        backwards = tuple(piece[::-1] for piece in reversed(pattern))
        return trim(value[::-1], backwards, suffix=False, longest=longest)[::-1]
    found = _find(value, _compiled(pattern), 0, at_start=True, longest=longest)
    return value[found[1] :] if found else value


def replace(value: str, pattern: Pattern, new: str, *, everywhere: bool) -> str:
    """The value with what the pattern fits (first, or everywhere) replaced."""
    out, done = "", 0
    for begin, end in _finds(value, _compiled(pattern)):
        out += value[done:begin] + new
        done = end
        if not everywhere:
            break
    return out + value[done:]


def _compiled(pattern: Pattern) -> list[re.Pattern[str]]:
    return [re.compile("".join(piece), re.DOTALL) for piece in pattern]


def _finds(value: str, pieces: list[re.Pattern[str]]) -> Iterator[tuple[int, int]]:
    """Where it fits, from the left; nothing at all right behind another place does not count."""
    at, last = 0, -1
    while found := _find(value, pieces, at, at_start=False, longest=True):
        begin, end = found
        if end > begin or end != last:
            yield begin, end
        last = end
        at = end if end > begin else end + 1
        if at > len(value):
            return


def _find(
    value: str, pieces: list[re.Pattern[str]], at: int, *, at_start: bool, longest: bool
) -> tuple[int, int] | None:
    first, *others = pieces
    found = first.match(value, at) if at_start else first.search(value, at)
    if found is None:
        return None
    begin, end = found.span()
    last = others.pop() if others else None
    for piece in others:
        found = piece.search(value, end)
        if found is None:
            return None
        end = found.end()
    if last is None:
        return begin, end
    # If the longest is wanted, the last piece is taken as far on as there is one.
    places = range(len(value), end - 1, -1) if longest else range(end, len(value) + 1)
    fits = next((fits for place in places if (fits := last.match(value, place))), None)
    return (begin, fits.end()) if fits else None
