"""What commands share: the daemon chosen on the command line, the time, output, several names at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from swarmd.cli.context import resolve_host
from swarmd.cli.errors import CliError, Unreachable

if TYPE_CHECKING:
    from swarmd.cli.client import Client
    from swarmd.cli.listing import Layout, Row

T = TypeVar("T")


def open_client() -> Client:
    """A client of the daemon this command line means."""
    from swarmd.cli.client import connect

    root = click.get_current_context().find_root().params
    host = resolve_host(root.get("context"), root.get("host"))
    return connect(host, warn_of_age=warn if root.get("stale") else None)


def now() -> float:
    """Seconds since 1970."""
    from swarmd.kit.clock import SystemClock

    return SystemClock().now()


def print_lines(lines: Iterable[str]) -> None:
    """Lines to standard output."""
    for line in lines:
        click.echo(line)


def warn(text: str) -> None:
    """A line to standard error."""
    click.echo(text, err=True)


def warn_all(sentences: Iterable[str]) -> None:
    """What a daemon warns of, line by line, to standard error."""
    for sentence in sentences:
        warn(f"WARNING: {sentence}")


def print_listing(form: Layout, rows: Sequence[Row], template: str | None, quiet: bool | None) -> None:
    """A listing, with ``--format`` and ``--quiet``."""
    from swarmd.cli.listing import listing
    from swarmd.kit.template import TemplateError

    try:
        print_lines(listing(form, rows, template, bool(quiet)))
    except TemplateError as error:
        raise CliError(str(error)) from None


def inspect(refs: Sequence[str], get: Callable[[str], Any], template: str | None) -> None:
    """Print what was found of ``refs`` as a JSON array or by a template, then fail for the others."""
    from swarmd.kit.go_values import go_json
    from swarmd.kit.template import TemplateError, compile_template

    found, problems = collect(refs, get)
    try:
        if template in (None, ""):
            click.echo(go_json(found, indent=4))
        else:
            fill = go_json if template == "json" else compile_template(str(template))
            print_lines(fill(item) for item in found)
    except TemplateError as error:
        raise CliError(str(error)) from None
    fail_if(problems)


def collect(refs: Iterable[str], act: Callable[[str], T]) -> tuple[list[T], list[str]]:
    """``act`` on every ref: the answers, and the sentences of the failures.

    That the daemon cannot be reached at all is raised: it would be the same for the others.
    """
    found: list[T] = []
    problems: list[str] = []
    for ref in refs:
        try:
            found.append(act(ref))
        except Unreachable:
            raise
        except CliError as error:
            problems.append(str(error))
    return found, problems


def each(refs: Iterable[str], act: Callable[[str], object]) -> None:
    """Do something to every ref; print each name as it is done, go on after a failure, fail at the end."""

    def one(ref: str) -> None:
        act(ref)
        click.echo(ref)

    fail_if(collect(refs, one)[1])


def fail_if(problems: Sequence[str]) -> None:
    """Raises CliError when there are any problems."""
    if problems:
        raise CliError("\n".join(problems))


def parse_filters(texts: Iterable[str], known: Sequence[str]) -> dict[str, set[str]]:
    """``key=value`` filters: values of one key are alternatives.  Raises CliError for an unknown key."""
    found: dict[str, set[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise CliError(f"invalid filter '{text}': write key=value")
        if key not in known:
            raise CliError(f"invalid filter '{key}': known are {', '.join(known)}")
        found.setdefault(key, set()).add(value)
    return found


def truth(values: Iterable[str], key: str) -> bool | None:
    """What a filter by yes or no asks for; None when it was not given.  Raises CliError."""
    answer: bool | None = None
    for value in values:
        if value not in ("true", "1", "false", "0"):
            raise CliError(f"invalid filter '{key}={value}': write true or false")
        answer = value in ("true", "1")
    return answer


def is_sure(warning: str) -> bool:
    """Whether the user, warned, wants to go on."""
    click.echo(warning)
    click.echo("Are you sure you want to continue? [y/N] ", nl=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def matches(filters: dict[str, set[str]], key: str, *values: str, prefix: bool = False) -> bool:
    """Whether one of ``values`` is asked for under ``key``; true when nothing is asked for."""
    wanted = filters.get(key)
    if wanted is None:
        return True
    return any(value == want or (prefix and value.startswith(want)) for value in values for want in wanted)


def matches_labels(filters: dict[str, set[str]], key: str, labels: Iterable[tuple[str, str]]) -> bool:
    """Whether ``labels`` have every ``key`` or ``key=value`` asked for."""
    have = dict(labels)
    pairs = (want.partition("=") for want in filters.get(key, ()))
    return all(name in have and (not equals or have[name] == value) for name, equals, value in pairs)
