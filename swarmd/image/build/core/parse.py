"""Instructions as they are written: keyword, flags, arguments in the form that keyword takes.  Pure.

bytes ──lines──► Line ──► Instruction      what the arguments mean is the business of ``instructions``
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache

import msgspec

from swarmd.image.build.core.graph import Node
from swarmd.image.build.core.heredoc import Heredoc
from swarmd.image.build.core.lines import Line, failed, read_lines
from swarmd.model.errors import Invalid
from swarmd.model.replace import replace

_SPACE = re.compile(r"[\t\v\f\r ]+")
_HELD = re.compile("\0(\\d+)\0")


class Instruction(msgspec.Struct, frozen=True, kw_only=True):
    """One instruction taken apart.  ``keyword`` is in lower case, ``word`` as written, so is ``rest``.

    ``exec_form``: the arguments were a JSON array.  ``legacy``: ENV or LABEL without ``=``; their arguments
    are name, value, name, value ….  A heredoc stands among the arguments of COPY and ADD as its announcement
    (``<<EOF``); ``inline`` says at which places.  ``inner`` is what ONBUILD holds back.
    """

    keyword: str
    word: str
    rest: str
    line: Line
    flags: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    exec_form: bool = False
    legacy: bool = False
    inline: dict[int, Heredoc] = {}
    inner: Instruction | None = None

    @property
    def first(self) -> int:
        return self.line.first

    @property
    def heredocs(self) -> tuple[Heredoc, ...]:
        return self.line.heredocs


class Dockerfile(Node, frozen=True, kw_only=True):
    """A file taken apart; nothing is expanded or looked up yet."""

    escape: str
    directives: dict[str, str]
    instructions: tuple[Instruction, ...]


def parse(dockerfile: bytes) -> Dockerfile:
    """Take a Dockerfile apart.  Raises Invalid: ``dockerfile parse error on line 3: …``."""
    source = read_lines(dockerfile)
    return Dockerfile(
        escape=source.escape,
        directives=source.directives,
        instructions=tuple(_at_its_line(line, source.escape) for line in source.lines),
    )


def parse_trigger(expression: str, line: int) -> Instruction:
    """What an image's ONBUILD says; ``line`` is the FROM that brings it.  Raises Invalid."""
    found = parse(expression.encode()).instructions
    if len(found) != 1:
        raise failed(line, f"onbuild trigger should be a single expression: {expression!r}")
    return found[0]


def _at_its_line(line: Line, escape: str) -> Instruction:
    try:
        return _instruction(line.text, line, escape)
    except _Wrong as error:
        raise failed(line.first, str(error)) from None


class _Wrong(Invalid):
    """Something about one instruction; whoever knows the line says so."""


def _instruction(text: str, line: Line, escape: str) -> Instruction:
    word, rest = _head(text)
    keyword = word.lower()
    flags, tail = _flags(rest)
    made = Instruction(keyword=keyword, word=word, rest=rest, line=line, flags=flags)
    if keyword == "onbuild":
        # One ONBUILD in another is refused later; a thousand are not to be gone through for that.
        deeper = _head(rest)[0].lower() == "onbuild"
        inner = made if deeper else _instruction(rest, line, escape) if rest else None
        return replace(made, inner=inner, flags=())
    if keyword in ("env", "label"):
        args, legacy = _pairs(tail, keyword.upper(), escape)
        return replace(made, args=args, legacy=legacy)
    if keyword in ("add", "copy", "volume"):
        return _listed(made, tail, text)
    if keyword == "healthcheck":
        kind, command = _head(tail)
        args, exec_form = _maybe_json(command, lambda rest: (rest,) if rest else ())
        return replace(made, args=(kind, *args) if kind else (), exec_form=exec_form)
    if keyword in ("cmd", "entrypoint", "run", "shell"):
        args, exec_form = _maybe_json(tail, lambda rest: (rest,) if rest else ())
        return replace(made, args=args, exec_form=exec_form)
    return replace(made, args=_plain(keyword, tail, escape))


def _plain(keyword: str, tail: str, escape: str) -> tuple[str, ...]:
    if keyword == "arg":
        return tuple(split_words(tail, escape))
    if keyword in ("expose", "from"):
        return _spaced(tail)
    return (tail,) if tail else ()


def _head(text: str) -> tuple[str, str]:
    """The first word and the rest."""
    word, *rest = _SPACE.split(text.strip(), maxsplit=1)
    return word, rest[0].strip() if rest else ""


def _flags(rest: str) -> tuple[tuple[str, ...], str]:
    """The words at the beginning that start with ``--``, without quotes and escapes, and what follows."""
    flags: list[str] = []
    at = 0
    while True:
        while at < len(rest) and rest[at].isspace():
            at += 1
        if not rest.startswith("--", at):
            return tuple(flags), rest[at:].strip()
        word, at = _flag(rest, at)
        if word == "--":
            return tuple(flags), rest[at:].strip()
        flags.append(word)


def _flag(rest: str, at: int) -> tuple[str, int]:
    word, quote = "", ""
    while at < len(rest):
        char = rest[at]
        if char == "\\":
            at += 1
            word += rest[at : at + 1]
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif not quote and char.isspace():
            break
        else:
            word += char
        at += 1
    return word, at


def _spaced(text: str) -> tuple[str, ...]:
    return tuple(_SPACE.split(text)) if text else ()


def _maybe_json(text: str, otherwise: Callable[[str], tuple[str, ...]]) -> tuple[tuple[str, ...], bool]:
    """The strings of a JSON array, or what ``otherwise`` makes of the text."""
    found: object = None
    if text.startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
    if not isinstance(found, list):
        return otherwise(text), False
    if not all(isinstance(item, str) for item in found):
        raise _Wrong("when using JSON array syntax, arrays must be comprised of strings only")
    # "\ud800" alone is no text that could be written anywhere.
    return tuple(item.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for item in found), True


def _listed(made: Instruction, tail: str, text: str) -> Instruction:
    """ADD, COPY, VOLUME: words, among them heredocs, which may have spaces in their names."""
    heredocs = made.heredocs if made.keyword != "volume" else ()
    if heredocs:
        for number, heredoc in reversed(tuple(enumerate(heredocs))):
            announced = text[heredoc.mark.start : heredoc.mark.end]
            before, found, after = tail.rpartition(announced)
            if found:
                tail = f"{before}\0{number}\0{after}"
    args, exec_form = _maybe_json(tail, _spaced)
    places = {at: heredocs[int(held[1])] for at, arg in enumerate(args) if (held := _HELD.fullmatch(arg))}
    shown = tuple(f"<<{places[at].name}" if at in places else arg for at, arg in enumerate(args))
    return replace(made, args=shown, exec_form=exec_form, inline=places)


def _pairs(text: str, keyword: str, escape: str) -> tuple[tuple[str, ...], bool]:
    words = split_words(text, escape)
    if words and "=" not in words[0]:
        name, *value = _SPACE.split(text, maxsplit=1)
        if not value:
            raise _Wrong(f"{keyword} must have two arguments")
        return (name, value[0]), True
    args: list[str] = []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise _Wrong(f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value')
        args += (name, text)
    return tuple(args), False


def split_words(text: str, escape: str) -> list[str]:
    """Words divided at spaces outside quotes; quotes and escapes stay in them."""
    return _word_pattern(escape).findall(text)


@lru_cache(maxsize=2)
def _word_pattern(escape: str) -> re.Pattern[str]:
    e = re.escape(escape)
    # An escape that nothing follows is no part of any word; a quote may stay open at the end.
    double = rf'"(?:{e}.|[^"{e}])*(?:"|(?={e}?\Z))'
    single = r"'[^']*(?:'|\Z)"
    return re.compile(rf"(?:{e}.|{double}|{single}|(?!{e})[^\s'\"])+", re.DOTALL)
