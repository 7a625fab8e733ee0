"""Where heredocs are announced in an instruction: ``<<EOF``, ``<<-EOF``, ``3<<'EOF'``.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from swarmd.image.build.core.graph import Node

_OPENING = re.compile(r"(\d*)<<(-?)(?!<)[ \t]*")
_ARITHMETIC_OPEN, _ARITHMETIC_CLOSE = "((", "))"


class Mark(Node, frozen=True, kw_only=True):
    """One announcement, from ``start`` to ``end`` in the text.

    ``expand``: the delimiter had no quotes, so variables in the content are replaced.
    """

    name: str
    start: int
    end: int
    expand: bool = True
    strip_tabs: bool = False
    descriptor: int = 0


class Heredoc(Node, frozen=True, kw_only=True):
    """A heredoc with its content as it stands in the file."""

    mark: Mark
    content: str

    @property
    def name(self) -> str:
        return self.mark.name

    @property
    def text(self) -> str:
        """The content as it is meant: without leading tabs where ``<<-`` said so."""
        if not self.mark.strip_tabs:
            return self.content
        return re.sub(r"(?m)^\t+", "", self.content)


def find_marks(text: str) -> tuple[Mark, ...]:
    """All announcements outside quotes, in order.  None at all if a quote is not closed."""
    found: list[Mark] = []
    at = 0
    for start, end in _words(text):
        if start < at:
            continue
        mark = _mark(text, start)
        if mark is not None:
            found.append(mark)
            at = mark.end
        if end < 0:
            return ()
    return tuple(found)


def _mark(text: str, start: int) -> Mark | None:
    opening = _OPENING.match(text, start)
    before = text[:start]
    if opening is None or before.count(_ARITHMETIC_OPEN) > before.count(_ARITHMETIC_CLOSE):
        return None
    end = _word_end(text, opening.end())
    raw = text[opening.end() : end]
    if not raw or "<" in raw:
        return None
    return Mark(
        name=_unquoted(raw),
        start=start,
        end=end,
        expand=not re.search(r"['\"]", re.sub(r"\\.", "", raw)),
        strip_tabs=bool(opening[2]),
        descriptor=int(opening[1] or 0),
    )


def _words(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each word; the end is -1 if a quote in it is not closed."""
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        end = _word_end(text, at)
        yield at, end
        if end < 0:
            return
        at = end


def _word_end(text: str, at: int) -> int:
    quote = ""
    while at < len(text):
        char = text[at]
        if char == "\\" and quote != "'":
            at += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char.isspace():
            return at
        at += 1
    return -1 if quote else len(text)


def _unquoted(raw: str) -> str:
    out, quote, at = "", "", 0
    while at < len(raw):
        char = raw[at]
        if char == "\\" and quote != "'" and at + 1 < len(raw):
            at += 1
            out += raw[at]
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            out += char
        at += 1
    return out
