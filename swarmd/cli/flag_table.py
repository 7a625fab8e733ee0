"""Flags as tables: what a :class:`Field` and a :class:`Collection` are, and how they decorate a command.

A field sets one thing and is spelt the same everywhere.  A collection is ``--name`` where something is made
and the pair ``--name-add``, ``--name-rm`` where it is changed.  A setting is given any number of times,
and its way of changing things is the same in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from swarmd.cli import service_edit as edit
from swarmd.cli.grammar import F, Parsed, Switch
from swarmd.cli.spec_text import parse_count, parse_ratio, parse_words
from swarmd.cli.units import parse_cpus, parse_duration, parse_size

if TYPE_CHECKING:
    from swarmd.rpc.v1 import types_pb2

TEXT = click.STRING
DURATION = Parsed("duration", parse_duration)
BYTES = Parsed("bytes", parse_size)
CPUS = Parsed("decimal", parse_cpus)
COUNT = Parsed("uint", parse_count)
RATIO = Parsed("float", parse_ratio)
WORDS = Parsed("command", parse_words)


class Field(NamedTuple):
    """``path`` is where the value goes in a ServiceSpec (empty: nowhere); ``kind`` None makes a switch."""

    name: str
    kind: click.ParamType[Any] | None
    path: str
    help: str
    short: str = ""


class Collection(NamedTuple):
    """``edit(spec, add, remove)`` changes the spec; both are what the flags were parsed to."""

    name: str
    add: click.ParamType[Any]
    remove: click.ParamType[Any]
    edit: Callable[[types_pb2.ServiceSpec, Sequence[Any], Sequence[Any]], None]
    help: str
    removed_by: str
    short: str = ""


class Setting(NamedTuple):
    """``edit(spec, values)`` changes the spec."""

    name: str
    kind: click.ParamType[Any]
    edit: Callable[[types_pb2.ServiceSpec, Sequence[Any]], None]
    help: str


Entry = Field | Collection | Setting


def options(command: F, entries: Iterable[Entry], *, changing: bool = False) -> F:
    """Decorate a command with the flags of ``entries``; ``changing``: collections as pairs."""
    for it in reversed(list(entries)):
        decorate = _pair_of if changing else _option
        command = decorate(command, it)
    return command


def apply_making(spec: types_pb2.ServiceSpec, entries: Iterable[Entry], given: Mapping[str, Any]) -> None:
    """Everything that was given, as a command that makes something was told it."""
    for it in entries:
        if isinstance(it, Collection):
            it.edit(spec, given[parameter(it.name)], ())
        else:
            _apply_single(spec, it, given)


def apply_changing(spec: types_pb2.ServiceSpec, entries: Iterable[Entry], given: Mapping[str, Any]) -> None:
    """Only what a command that changes something was told to."""
    for it in entries:
        if isinstance(it, Collection):
            add, remove = given[parameter(f"{it.name}-add")], given[parameter(f"{it.name}-rm")]
            if add or remove:
                it.edit(spec, add, remove)
        else:
            _apply_single(spec, it, given)


def parameter(name: str) -> str:
    """What click calls the parameter of a flag."""
    return name.replace("-", "_")


def _apply_single(spec: types_pb2.ServiceSpec, it: Field | Setting, given: Mapping[str, Any]) -> None:
    value = given[parameter(it.name)]
    if isinstance(it, Setting):
        if value:
            it.edit(spec, value)
    elif value is not None and it.path:
        edit.set_path(spec, it.path, value)


def _option(command: F, it: Entry) -> F:
    short = getattr(it, "short", "")
    # The name is given to click as well: --shm-size and the like are no Python names by themselves.
    names = [parameter(it.name), *([short] if short else []), f"--{it.name}"]
    if isinstance(it, Field):
        if it.kind is None:
            return click.option(*names[1:], cls=Switch, help=it.help)(command)
        return click.option(*names, type=it.kind, help=it.help)(command)
    kind = it.kind if isinstance(it, Setting) else it.add
    return click.option(*names, type=kind, metavar="list", multiple=True, help=it.help)(command)


def _pair_of(command: F, it: Entry) -> F:
    if not isinstance(it, Collection):
        return _option(command, it)
    for verb, kind, metavar in (("rm", it.remove, it.removed_by), ("add", it.add, "list")):
        text = f"{'Remove' if verb == 'rm' else 'Add or change'}: {it.help}"
        command = click.option(f"--{it.name}-{verb}", type=kind, metavar=metavar, multiple=True, help=text)(
            command
        )
    return command
