"""A subset of Go's text/template, enough for ``--format`` and for what a service says of its tasks.  Pure.

Known: ``{{.A.B}}``, ``{{.}}``, ``{{$}}``, strings, numbers, true/false, pipes, parentheses, the functions
below, ``if``/``else if``/``else``/``end``, ``range``/``else``/``end``, ``{{-`` and ``-}}``, comments.
Data are dicts, lists, strings, numbers, booleans and None.  Problems are TemplateError, a sentence; one in
the template itself says where.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from swarmd.kit.go_values import FUNCTIONS, go_text

DEEPEST = 50
"""Blocks and parentheses in each other: far more than anybody writes, far less than a stack holds."""

MOST_WORDS = 200
"""Words of one action."""

_TOKEN = re.compile(
    r"""\s*(?:("(?:\\.|[^"\\])*"|`[^`]*`)|(-?\d+(?:\.\d+)?)|(\$?(?:\.[A-Za-z_]\w*)+|\$|\.)|([A-Za-z_]\w*)|([|()]))"""
)
_ESCAPES = {"\\t": "\t", "\\n": "\n"}


class TemplateError(ValueError):
    """The template is wrong, or asks for something its data do not have.  ``located``: it says where."""

    def __init__(self, text: str, *, located: bool = False) -> None:
        super().__init__(text)
        self.located = located


class _Scope(NamedTuple):
    """What ``.`` and ``$`` stand for."""

    dot: Any
    root: Any


class Dialect(NamedTuple):
    """What a template may use: names of functions, and whether ``range``."""

    functions: Collection[str]
    loops: bool = True


class _Words(list[tuple[str, str]]):
    """The tokens of one action that are still to be read: (kind, text)."""

    dialect: Dialect


class _Piece(NamedTuple):
    """A text or an action, and where it begins."""

    is_action: bool
    text: str
    position: int


class _Pieces(NamedTuple):
    """The pieces that are still to be read."""

    rest: Iterator[_Piece]
    dialect: Dialect
    depth: int = 0

    def inner(self) -> _Pieces:
        """The same, one block deeper."""
        if self.depth >= DEEPEST:
            raise TemplateError(f"template parsing error: more than {DEEPEST} blocks in each other")
        return self._replace(depth=self.depth + 1)


_Node = Callable[[_Scope], str]
_Value = Callable[[_Scope], Any]


def render(template: str, data: Any) -> str:
    """The template filled with ``data``."""
    return compile_template(template)(data)


def compile_template(template: str, dialect: Dialect | None = None) -> Callable[[Any], str]:
    """A function from data to text; raises TemplateError when the template cannot be understood."""
    nodes, closing = _block(_Pieces(_split(template), dialect or Dialect(FUNCTIONS)))
    if closing:
        raise TemplateError(f"template parsing error: unexpected {{{{{closing}}}}}")
    return lambda data: "".join(node(_Scope(data, data)) for node in nodes)


def unescape(template: str) -> str:
    r"""``\t`` and ``\n`` typed in a shell become what they stand for."""
    return re.sub(r"\\[tn]", lambda match: _ESCAPES[match.group()], template)


def _split(template: str) -> Iterator[_Piece]:
    """The pieces, with trim markers already applied."""
    position, trim = 0, False
    while (start := template.find("{{", position)) >= 0:
        end = template.find("}}", start + 2)
        if end < 0:
            where = f"(character {start + 1})"
            raise TemplateError(f"template parsing error: unclosed action {where}", located=True)
        text, action = template[position:start], template[start + 2 : end]
        text = text.lstrip() if trim else text
        trims = len(action) > 1 and action[0] == "-" and action[1].isspace()
        yield _Piece(False, text.rstrip() if trims else text, position)
        action = action[1:] if trims else action
        trim = len(action) > 1 and action[-1] == "-" and action[-2].isspace()
        yield _Piece(True, (action[:-1] if trim else action).strip(), start)
        position = end + 2
    rest = template[position:]
    yield _Piece(False, rest.lstrip() if trim else rest, position)


def _block(pieces: _Pieces) -> tuple[list[_Node], str]:
    """Nodes up to the action that closes the block, and that action (empty at the end of the template)."""
    nodes: list[_Node] = []
    for piece in pieces.rest:
        if not piece.is_action:
            nodes.append(_constant(piece.text))
        elif piece.text.split(maxsplit=1)[:1] in (["end"], ["else"]):
            return nodes, piece.text
        elif not piece.text.startswith("/*"):
            try:
                nodes.append(_action(piece.text, pieces))
            except TemplateError as error:
                if error.located:
                    raise
                raise TemplateError(f"{error} (character {piece.position + 1})", located=True) from None
    return nodes, ""


def _action(text: str, pieces: _Pieces) -> _Node:
    word = text.split(maxsplit=1)[0] if text.split() else ""
    if word in ("if", "range"):
        return _control(word, text[len(word) :], pieces.inner())
    return _output(_expression(text, pieces.dialect))


def _constant(text: str) -> _Node:
    return lambda _: text


def _output(value: _Value) -> _Node:
    return lambda scope: go_text(value(scope))


def _control(word: str, condition: str, pieces: _Pieces) -> _Node:
    if word == "range" and not pieces.dialect.loops:
        raise TemplateError("template parsing error: range cannot be used here")
    value = _expression(condition, pieces.dialect)
    then, closing = _block(pieces)
    otherwise: list[_Node] = []
    if closing.startswith("else"):
        rest = closing[4:].strip()
        if rest.startswith("if"):
            otherwise, closing = [_control("if", rest[2:], pieces.inner())], "end"
        else:
            otherwise, closing = _block(pieces)
    if closing != "end":
        raise TemplateError(f"template parsing error: {{{{{word}}}}} without {{{{end}}}}")
    make = _make_if if word == "if" else _make_range
    return make(value, then, otherwise)


def _make_if(value: _Value, then: list[_Node], otherwise: list[_Node]) -> _Node:
    def run(scope: _Scope) -> str:
        return "".join(node(scope) for node in (then if value(scope) else otherwise))

    return run


def _make_range(value: _Value, then: list[_Node], otherwise: list[_Node]) -> _Node:
    def run(scope: _Scope) -> str:
        items = value(scope)
        if isinstance(items, dict):
            items = [items[key] for key in sorted(items)]
        elif not isinstance(items, (list, tuple)) and items is not None:
            raise TemplateError(f"template: range can't iterate over {go_text(items)}")
        if not items:
            return "".join(node(scope) for node in otherwise)
        return "".join(node(_Scope(item, scope.root)) for item in items for node in then)

    return run


def _expression(text: str, dialect: Dialect) -> _Value:
    tokens = _tokens(text)
    tokens.dialect = dialect
    value = _pipeline(tokens)
    if tokens:
        raise TemplateError(f'template parsing error: unexpected "{tokens[0][1]}" in {{{{{text.strip()}}}}}')
    return value


def _tokens(text: str) -> _Words:
    found, position = _Words(), 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise TemplateError(f'template parsing error: cannot read "{text[position:].strip()}"')
        kind = ("string", "number", "field", "name", "mark")[(match.lastindex or 1) - 1]
        found.append((kind, match[match.lastindex or 0]))
        position = match.end()
        if len(found) > MOST_WORDS:
            raise TemplateError(f"template parsing error: more than {MOST_WORDS} words in one action")
    if sum(text == "(" for _, text in found) > DEEPEST:
        raise TemplateError(f"template parsing error: more than {DEEPEST} parentheses in one action")
    return found


def _pipeline(tokens: _Words) -> _Value:
    value = _command(tokens, None)
    while tokens and tokens[0][1] == "|":
        tokens.pop(0)
        value = _command(tokens, value)
    return value


def _command(tokens: _Words, piped: _Value | None) -> _Value:
    if not tokens:
        raise TemplateError("template parsing error: missing value for command")
    kind, text = tokens[0]
    if kind != "name" or text in ("true", "false"):
        if piped is not None:
            raise TemplateError(f'template parsing error: cannot pipe into "{text}"')
        return _operand(tokens)
    tokens.pop(0)
    if text not in tokens.dialect.functions:
        raise TemplateError(f'template parsing error: function "{text}" not defined')
    arguments = []
    while tokens and tokens[0][1] not in ("|", ")"):
        arguments.append(_operand(tokens))
    return _call(text, [*arguments, piped] if piped is not None else arguments)


def _operand(tokens: _Words) -> _Value:
    kind, text = tokens.pop(0)
    if text == "(":
        value = _pipeline(tokens)
        if not tokens or tokens.pop(0)[1] != ")":
            raise TemplateError("template parsing error: unclosed left paren")
        return value
    if kind == "field":
        return _field(text)
    if kind in ("string", "number"):
        constant = _constant_value(kind, text)
        return lambda _: constant
    if text in ("true", "false"):
        return lambda _: text == "true"
    raise TemplateError(f'template parsing error: unexpected "{text}"')


def _constant_value(kind: str, text: str) -> Any:
    try:
        if kind == "string":
            return text[1:-1] if text[0] == "`" else json.loads(text)
        return float(text) if "." in text else int(text)
    except ValueError:
        raise TemplateError(f"template parsing error: cannot read {text}") from None


def _field(path: str) -> _Value:
    names = [name for name in path.removeprefix("$").split(".") if name]

    def get(scope: _Scope) -> Any:
        value = scope.root if path.startswith("$") else scope.dot
        for name in names:
            if not isinstance(value, dict) or name not in value:
                known = ", ".join(value) if isinstance(value, dict) else "no fields"
                raise TemplateError(f'template: "{path}": there is no field {name} here (known: {known})')
            value = value[name]
        return value

    return get


def _call(name: str, arguments: list[_Value]) -> _Value:
    function = FUNCTIONS[name]

    def run(scope: _Scope) -> Any:
        values = [argument(scope) for argument in arguments]
        try:
            return function(*values)
        except TemplateError:
            raise
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise TemplateError(f"template: error calling {name}: {error}") from error

    return run
