"""Docker's command-line grammar on top of click: lazy groups, ``--flag=false``, its words for bad usage."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_TRUE = ("1", "t", "true")
_FALSE = ("0", "f", "false")


class ArgumentCount(click.UsageError):
    """Too few or too many positional arguments."""


class BadArgument(click.UsageError):
    """A flag's value cannot be read."""


class Parsed(click.ParamType[Any]):
    """A flag value read by a function that raises ValueError with a sentence."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            flags = ", ".join(param.opts) if param else self.name
            raise BadArgument(f'invalid argument "{value}" for "{flags}" flag: {error}', ctx) from None

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return self.name


class Switch(click.Option):
    """A flag without value that also takes ``=true`` and ``=false``; None when it is not given."""

    def __init__(self, declarations: Sequence[str], **settings: Any) -> None:
        *given, long = declarations
        self.off = f"--no-{long.removeprefix('--')}"
        super().__init__([*given, f"{long}/{self.off}"], default=None, **settings)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        return ", ".join(self.opts), self.help or ""


class Command(click.Command):
    """A command that counts its arguments as Docker does."""

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        return super().make_context(*args, allow_extra_args=True, **settings)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = _options(self, ctx)
        try:
            super().parse_args(ctx, spell_switches(known, args, ctx.allow_interspersed_args))
        except click.MissingParameter as error:
            if isinstance(error.param, click.Argument):
                raise _argument_count(self, ctx) from None
            raise
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise
        if ctx.args and not ctx.resilient_parsing:
            raise _argument_count(self, ctx)
        return ctx.args


class Group(click.Group):
    """A group whose commands are ``"module:attribute"`` and imported when they are used."""

    command_class = Command

    def __init__(self, *args: Any, lazy: Mapping[str, str] | None = None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.lazy = dict(lazy or {})
        self.aliases: dict[str, str] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *self.lazy})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spell_switches(_options(self, ctx), args, interspersed=False))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = self.aliases.get(cmd_name, cmd_name)
        if name in self.lazy:
            module, _, attribute = self.lazy[name].partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        return self.commands.get(name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise click.UsageError(f"unknown command: {ctx.command_path} {args[0]}", ctx)
        return super().resolve_command(ctx, args)


def spell_switches(options: Mapping[str, click.Option], args: Sequence[str], interspersed: bool) -> list[str]:
    """``--flag=true`` and ``--flag=false`` as ``--flag`` and ``--no-flag``, and ``-f`` as ``--flag``.

    The last because click asks first which long flags ``-f`` is like, and takes its time.  Only flags of the
    command itself: what follows ``--``, or the first argument of a command that takes another program's
    command line (``interspersed`` false), is left as it is.
    """
    out: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        if word == "--" or (not interspersed and not (word.startswith("-") and word != "-")):
            return [*out, word, *rest]
        name, equals, value = word.partition("=")
        option = options.get(name)
        if isinstance(option, Switch) and equals:
            word = _spelt(option, name, value)
        takes_next = _takes_next(options, word)
        if option is not None and (rest or not takes_next):
            word = _in_full(option, word)
        out.append(word)
        if takes_next and rest:
            out.append(rest.pop(0))
    return out


def switch(*declarations: str, text: str) -> Callable[[F], F]:
    """A :class:`Switch` as a decorator."""
    return click.option(*declarations, cls=Switch, help=text)


def _spelt(option: Switch, name: str, value: str) -> str:
    if value.lower() in _TRUE:
        return name
    if value.lower() in _FALSE:
        return option.off
    raise BadArgument(f'invalid argument "{value}" for "{", ".join(option.opts)}" flag: write true or false')


def _in_full(option: click.Option, word: str) -> str:
    long = (name for name in option.opts if name.startswith("--"))
    return word if word not in option.opts or word.startswith("--") else next(long, word)


def _takes_next(options: Mapping[str, click.Option], word: str) -> bool:
    """Whether the word after this one is the value of the flag in it."""
    if word.startswith("--"):
        option = options.get(word)
        return option is not None and not option.is_flag
    if not word.startswith("-"):
        return False
    for position, letter in enumerate(word[1:], 2):
        option = options.get(f"-{letter}")
        if option is None or not option.is_flag:
            return option is not None and position == len(word)
    return False


def _options(command: click.Command, ctx: click.Context) -> dict[str, click.Option]:
    return {
        name: param
        for param in command.get_params(ctx)
        if isinstance(param, click.Option)
        for name in [*param.opts, *param.secondary_opts]
    }


def _argument_count(command: click.Command, ctx: click.Context) -> ArgumentCount:
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    least = sum(param.required for param in arguments)
    open_ended = any(param.nargs == -1 for param in arguments)
    amount = "at least" if open_ended else "exactly" if least == len(arguments) else "at most"
    number = len(arguments) if amount == "at most" else least
    words = f"{amount} {number} argument{'' if number == 1 else 's'}"
    if not arguments:
        words = "accepts no arguments"
        return ArgumentCount(f'"{ctx.command_path}" {words}.', ctx)
    return ArgumentCount(f'"{ctx.command_path}" requires {words}.', ctx)
