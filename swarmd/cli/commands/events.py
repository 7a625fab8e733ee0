"""``swarmctl events``: what happens in the swarm, as it happens; it goes on at another manager.

watch ──► lines ──► the way broke ──► the same daemon or the next, after the last index
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from swarmd.cli import session
from swarmd.cli.context import resolve_host
from swarmd.cli.errors import CliError, DaemonError
from swarmd.cli.grammar import Command
from swarmd.cli.units import parse_since, rfc3339
from swarmd.kit.go_values import go_json
from swarmd.kit.template import TemplateError, compile_template

if TYPE_CHECKING:
    from swarmd.rpc.v1 import control_pb2

ROUNDS = 20
"""How often all daemons are tried before giving up, one second apart."""

_KEYS = ("type", "event")
_PASSING = ("unavailable", "not_manager", "internal")


@click.command("events", cls=Command)
@click.option("--since", default="", help="Begin at a timestamp or some time ago (e.g. 10m), if remembered")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="type=, event=, or service=, node=, task= with an id or name",
)
@click.option("--format", "template", default="", help="Format with a Go template, or 'json'")
@click.option(
    "--also", multiple=True, metavar="CONTEXT", help="Go on at this context's manager when one is lost"
)
def events(since: str, filters: tuple[str, ...], template: str, also: tuple[str, ...]) -> None:
    """Show what happens in the swarm: services, nodes, tasks, networks, tokens."""
    wanted = _wanted(filters)
    try:
        start = parse_since(since, session.now()) if since else 0.0
        fill = go_json if template == "json" else compile_template(template) if template else None
    except (ValueError, TemplateError) as error:
        raise CliError(str(error)) from None
    root = click.get_current_context().find_root().params
    hosts = [
        resolve_host(root.get("context"), root.get("host")),
        *(resolve_host(name, None) for name in also),
    ]
    for event in follow(hosts, sorted(wanted.get("type", ())), start):
        if _matches(event, wanted):
            click.echo(fill(_document(event)) if fill else line(event))


def follow(hosts: Sequence[str], kinds: Sequence[str], since: float) -> Iterator[control_pb2.WatchEvent]:
    """Events without loss or repetition, from whichever of ``hosts`` answers.

    Raises CliError when none has answered for a while; says on standard error when events are lost for good.
    """
    from swarmd.rpc.v1 import control_pb2

    request = control_pb2.WatchRequest(kinds=kinds, since=since)
    turn, failures = 0, 0
    while True:
        try:
            for response in _watch(hosts[turn % len(hosts)], request):
                yield from response.events
                request.after_index, failures = response.index, 0
            problem = CliError("The daemon has ended the stream of events.")
        except CliError as error:
            if isinstance(error, DaemonError) and error.kind == "out_of_sequence":
                session.warn(f"Some events are lost: {error.message}.")
                request = control_pb2.WatchRequest(kinds=kinds)
                continue
            problem = error
        turn, failures = turn + 1, failures + 1
        begun = request.HasField("after_index")
        if not _passes(problem) or failures >= len(hosts) * (ROUNDS if begun else 1):
            raise problem
        if failures % len(hosts) == 0:
            Event().wait(1.0)


def _watch(host: str, request: control_pb2.WatchRequest) -> Iterator[control_pb2.WatchResponse]:
    from swarmd.cli.client import connect

    with connect(host) as client:
        yield from client.control.Watch(request)


def _passes(problem: CliError) -> bool:
    """Another daemon, or the same one later, may well answer."""
    return not isinstance(problem, DaemonError) or problem.kind in _PASSING


def line(event: control_pb2.WatchEvent) -> str:
    """``2026-11-25T22:00:00.0Z node update <id> (name=n1, state.new=ready)``."""
    pairs = {**({"name": event.name} if event.name else {}), **dict(event.attributes)}
    inside = ", ".join(f"{key}={value}" for key, value in sorted(pairs.items()))
    return f"{rfc3339(event.at)} {event.kind} {event.action} {event.id}" + (f" ({inside})" if inside else "")


def _document(event: control_pb2.WatchEvent) -> dict[str, Any]:
    """What a template sees: the names of Docker's events."""
    return {
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": {"name": event.name, **dict(event.attributes)}},
        "scope": "swarm",
        "time": int(event.at),
        "timeNano": int(event.at * 1_000_000_000),
    }


def _wanted(filters: Sequence[str]) -> dict[str, set[str]]:
    wanted: dict[str, set[str]] = {}
    for text in filters:
        key, equals, value = text.partition("=")
        if not equals or key not in (*_KEYS, "service", "node", "task"):
            raise CliError(f'invalid filter "{text}": use type=, event=, service=, node= or task=')
        wanted.setdefault(key, set()).add(value)
    return wanted


def _matches(event: control_pb2.WatchEvent, wanted: dict[str, set[str]]) -> bool:
    """Filters of one key: any; of different keys: all."""
    for key, values in wanted.items():
        if key == "type":
            found = event.kind in values
        elif key == "event":
            found = event.action in values
        else:
            found = event.kind == key and bool({event.id, event.name} & values)
        if not found:
            return False
    return True
