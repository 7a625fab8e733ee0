"""Words as a shell reads them: quotes, escapes, ``$name`` and ``${name…}``.  Pure.

    ${x}  ${x:-w} ${x-w}  ${x:+w} ${x+w}  ${x:?w} ${x?w}  ${x#p} ${x##p}  ${x%p} ${x%%p}  ${x/p/w} ${x//p/w}

Positional and special parameters (``$1``, ``$@``) are empty: nobody passes any.
"""

from __future__ import annotations

from collections.abc import Mapping

from swarmd.image.build.core import wildcard
from swarmd.image.build.core.graph import Node
from swarmd.model.errors import Invalid

_SPECIAL = "@*#?-$!0"


class Expanded(Node, frozen=True, kw_only=True):
    """A text with its variables replaced: whole, and divided at spaces that were not quoted.

    ``unset`` are the names that were asked for and not found.
    """

    text: str
    words: tuple[str, ...]
    unset: tuple[str, ...] = ()


def expand(word: str, env: Mapping[str, str], *, escape: str = "\\", quotes: bool = True) -> Expanded:
    """Replace variables; ``quotes`` False leaves quotes alone (the content of heredocs).

    Raises Invalid for what a shell would refuse: open quotes, bad substitutions, ``${x:?}`` of an unset x.
    """
    expander = _Expander(word, env, escape, quotes)
    try:
        text, words = expander.until("", raw=False)
    except _Refused as error:
        raise Invalid(f'failed to process "{word}": {error}') from None
    except RecursionError:
        raise Invalid("failed to process a word: its substitutions are nested too deeply") from None
    return Expanded(text=text, words=tuple(words), unset=tuple(dict.fromkeys(expander.unset)))


class _Refused(Exception):
    pass


class _Words:
    """Divides what is added at spaces that are not quoted."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._word = ""

    def add(self, text: str) -> None:
        for char in text:
            if not char.isspace():
                self._word += char
            else:
                self.finish()

    def add_quoted(self, text: str) -> None:
        self._word += text

    def finish(self) -> list[str]:
        if self._word:
            self.done.append(self._word)
            self._word = ""
        return self.done


class _Expander:
    def __init__(self, text: str, env: Mapping[str, str], escape: str, quotes: bool) -> None:
        self._text, self._env, self._escape = text, env, escape
        self._quotes = quotes
        self._at = 0
        self._raw = False
        self.unset: list[str] = []

    @property
    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._next
        self._at += 1
        return char

    def until(self, stop: str, *, raw: bool) -> tuple[str, list[str]]:
        """Everything up to ``stop`` (or the end, if that is empty); ``raw`` keeps the escapes."""
        outer, self._raw = self._raw, raw
        text, words = "", _Words()
        while (char := self._next) and not (stop and char == stop):
            if char == "$":
                piece = self._dollar()
                words.add(piece)
            elif self._quotes and char in "'\"":
                piece = self._single() if char == "'" else self._double()
                words.add_quoted(piece)
            elif char == self._escape:
                piece = self._escaped()
                words.add_quoted(piece)
            else:
                piece = self._take()
                words.add(piece)
            text += piece
        if stop and not self._take():
            raise _Refused(f"unexpected end of statement while looking for matching {stop}")
        self._raw = outer
        return text, words.finish()

    def _escaped(self) -> str:
        escape = self._take()
        return (escape if self._raw else "") + self._take()

    def _single(self) -> str:
        start = self._at + 1
        end = self._text.find("'", start)
        if end < 0:
            raise _Refused("unexpected end of statement while looking for matching single-quote")
        self._at = end + 1
        return self._text[start:end]

    def _double(self) -> str:
        self._take()
        text = ""
        while (char := self._next) != '"':
            if not char:
                raise _Refused("unexpected end of statement while looking for matching double-quote")
            if char == "$":
                text += self._dollar()
            elif char == self._escape:
                text += self._escaped_in_quotes()
            else:
                text += self._take()
        self._take()
        return text

    def _escaped_in_quotes(self) -> str:
        escape = self._take()
        if self._next and self._next in ('"', "$", self._escape):
            return (escape if self._raw else "") + self._take()
        if not self._next:
            return escape if self._raw else ""
        return escape * 2 if self._raw else escape

    def _dollar(self) -> str:
        self._take()
        if self._next != "{":
            name = self._name()
            return self._value(name)[0] if name else "$"
        self._take()
        if not self._next:
            raise _Refused("syntax error: missing '}'")
        if self._next in "{}:":
            raise _Refused("syntax error: bad substitution")
        return self._substitution(self._name())

    def _name(self) -> str:
        start, char = self._at, self._next
        if char.isdigit():
            while self._next.isdigit():
                self._at += 1
        elif char and char in _SPECIAL:
            self._at += 1
        else:
            while self._next.isalpha() or self._next.isdigit() or self._next == "_":
                self._at += 1
        return self._text[start : self._at]

    def _value(self, name: str) -> tuple[str, bool]:
        if name in self._env:
            return self._env[name], True
        self.unset.append(name)
        return "", False

    def _substitution(self, name: str) -> str:
        modifier = self._take()
        if not modifier:
            raise _Refused("syntax error: missing '}'")
        if modifier == "}":
            return self._value(name)[0]
        if modifier == "/":
            return self._replaced(name)
        colon = ":" if modifier == ":" else ""
        if colon:
            modifier = self._take()
        if not modifier or modifier not in ("-+?" if colon else "-+?#%"):
            raise _Refused(f"unsupported modifier ({colon}{modifier}) in substitution")
        word = self._operand("}", raw=modifier in "#%")
        if modifier in "#%":
            return self._trimmed(name, modifier, word)
        value, found = self._value(name)
        there = found and not (colon and not value)
        if modifier == "?" and not there:
            why = "empty" if found else "unset"
            raise _Refused(f"{name}: {word or f'is not allowed to be {why}'}")
        if modifier == "+":
            return word if there else ""
        return value if there else word

    def _operand(self, stop: str, *, raw: bool) -> str:
        try:
            return self.until(stop, raw=raw)[0]
        except _Refused:
            if self._next:
                raise
            missing = "'}'" if stop == "}" else "'/' in ${}"
            raise _Refused(f"syntax error: missing {missing}") from None

    def _trimmed(self, name: str, end: str, word: str) -> str:
        longest = word.startswith(end)
        pattern = self._pattern(word[1:] if longest else word)
        value, _ = self._value(name)
        return wildcard.trim(value, pattern, suffix=end == "%", longest=longest)

    def _replaced(self, name: str) -> str:
        everywhere = self._next == "/"
        if everywhere:
            self._take()
        word = self._operand("/", raw=True)
        new = self._operand("}", raw=True)
        pattern = self._pattern(word)
        value, _ = self._value(name)
        return wildcard.replace(value, pattern, new, everywhere=everywhere)

    def _pattern(self, word: str) -> wildcard.Pattern:
        try:
            return wildcard.read(word)
        except ValueError as error:
            raise _Refused(f"invalid pattern ({word}) in substitution: {error}") from None
