"""A Dockerfile's text as logical lines: directives, comments, continuations, heredocs.  Pure.

bytes ──► Source(escape, directives, lines)      a Line is one instruction, from its first to its last row
"""

from __future__ import annotations

import re

from swarmd.image.build.core.graph import Node
from swarmd.image.build.core.heredoc import Heredoc, Mark, find_marks
from swarmd.model.errors import Invalid

MAX_LINE = 65535  # bytes; longer ones are no text that somebody wrote

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
_KNOWN = ("escape", "syntax", "check")
_TAKES_HEREDOCS = re.compile(r"(?:onbuild\s+)?(?:run|copy|add)\s", re.IGNORECASE)


class Line(Node, frozen=True, kw_only=True):
    """One instruction; rows count from 1.  ``text`` has no continuations, ``comments`` stand right before it.

    ``gaps``: there were empty rows inside it.
    """

    first: int
    last: int
    text: str
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[str, ...] = ()
    gaps: bool = False


class Source(Node, frozen=True, kw_only=True):
    """A file read.  ``escape`` is what continues a line; ``directives`` are those of its head, by name."""

    escape: str
    directives: dict[str, str]
    lines: tuple[Line, ...]


def failed(line: int, text: str) -> Invalid:
    """The error for something wrong at that row, in the words that builders use."""
    return Invalid(f"dockerfile parse error on line {line}: {text}")


def read_lines(dockerfile: bytes) -> Source:
    """Divide the file.  Raises Invalid: it says in which row, and what is wrong there."""
    if not dockerfile.strip():
        raise Invalid("the Dockerfile cannot be empty")
    try:
        text = dockerfile.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = dockerfile.count(b"\n", 0, error.start) + 1
        raise failed(row, "not UTF-8; save the file in that encoding") from None
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._rows = text.split("\n")
        if not self._rows[-1]:
            self._rows.pop()
        self._at = 0
        self._escape = "\\"
        self._directives: dict[str, str] = {}
        self._comments: list[str] = []

    def read(self) -> Source:
        lines: list[Line] = []
        head = True
        while self._at < len(self._rows):
            row = self._take().lstrip()
            head = head and self._is_directive(row)
            if not row:
                self._comments.clear()
            if head or not row:
                continue
            if row.startswith("#"):
                self._remember(row[1:].strip())
            elif (line := self._instruction(row)) is not None:
                lines.append(line)
        if not lines:
            raise failed(max(1, self._at), "file with no instructions")
        return Source(escape=self._escape, directives=self._directives, lines=tuple(lines))

    def _take(self) -> str:
        row = self._rows[self._at]
        self._at += 1
        if len(row) > MAX_LINE or len(row.encode()) > MAX_LINE:
            raise failed(self._at, f"dockerfile line greater than max allowed size of {MAX_LINE}")
        return row.removesuffix("\r")

    def _is_directive(self, row: str) -> bool:
        found = _DIRECTIVE.match(row)
        name = found[1].lower() if found else ""
        if found is None or name not in _KNOWN:
            return False
        if name in self._directives:
            raise failed(self._at, f"only one {name} parser directive can be used")
        if name == "escape":
            if found[2] not in ("\\", "`"):
                raise failed(self._at, f"invalid escape token '{found[2]}' does not match ` or \\")
            self._escape = found[2]
        self._directives[name] = found[2]
        return True

    def _remember(self, comment: str) -> None:
        if comment:
            self._comments.append(comment)
        else:
            self._comments.clear()

    def _instruction(self, row: str) -> Line | None:
        first, gaps = self._at, False
        text, more = self._continues(row)
        while more and self._at < len(self._rows):
            row = self._take()
            if row.lstrip().startswith("#"):
                continue
            if not row.strip():
                gaps = True
                continue
            part, more = self._continues(row)
            text += part
        if not text.strip():
            return None
        marks = find_marks(text) if _TAKES_HEREDOCS.match(text) else ()
        heredocs = tuple(self._heredoc(mark, first) for mark in marks)
        comments, self._comments = tuple(self._comments), []
        return Line(first=first, last=self._at, text=text, heredocs=heredocs, comments=comments, gaps=gaps)

    def _continues(self, row: str) -> tuple[str, bool]:
        """The row without its mark of continuation, and whether it had one: an escaped escape is none."""
        bare = row.rstrip(" \t")
        if not bare.endswith(self._escape) or bare.endswith(self._escape * 2):
            return row, False
        return bare[:-1], True

    def _heredoc(self, mark: Mark, first: int) -> Heredoc:
        content: list[str] = []
        while self._at < len(self._rows):
            row = self._rows[self._at]
            self._at += 1
            end = row.removesuffix("\r")
            if (end.lstrip("\t") if mark.strip_tabs else end) == mark.name:
                return Heredoc(mark=mark, content="".join(content))
            content.append(row + "\n")
        raise failed(first, f"unterminated heredoc: no line is just {mark.name!r}")
