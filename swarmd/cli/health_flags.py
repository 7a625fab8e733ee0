"""The flags that say how containers are probed: Docker's ``--health-…``, and ours."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from swarmd.cli.grammar import F, Parsed, Switch
from swarmd.cli.spec_text import parse_count
from swarmd.cli.units import format_duration, parse_duration

if TYPE_CHECKING:
    from swarmd.rpc.v1 import types_pb2

_DURATION = Parsed("duration", parse_duration)
_COUNT = Parsed("uint", parse_count)
_FIELDS: dict[str, tuple[click.ParamType[Any], str]] = {
    "interval": (_DURATION, "Time between checks (ms|s|m|h)"),
    "timeout": (_DURATION, "Maximum time to allow one check to run (ms|s|m|h)"),
    "start-period": (_DURATION, "Time to initialize before failures count (ms|s|m|h)"),
    "start-interval": (_DURATION, "Time between checks during the start period (ms|s|m|h)"),
    "retries": (_COUNT, "Consecutive failures needed to report unhealthy"),
}
_FORM = (
    "write cmd=COMMAND, tcp=PORT or http=PORT/PATH first, then interval=, timeout=, delay=, failures=, "
    "successes="
)


def parse_probe(text: str) -> dict[str, Any]:
    """``http=8080/ready,interval=2s,failures=3``: fields as in ProbeSpec; empty for ``none``.

    A comma inside a value is written in CSV's quotes: ``"cmd=test -f /a,b",interval=1s``.
    """
    if text == "none":
        return {}
    first, *rest = next(csv.reader([text]), []) or [""]
    fields = _what(first)
    for part in rest:
        name, equals, value = part.partition("=")
        if name in ("interval", "timeout", "delay") and equals:
            fields[name] = parse_duration(value)
        elif name in ("failures", "successes", "status") and equals:
            fields[name] = parse_count(value)
        elif name == "header" and ":" in value:
            key, _, content = value.partition(":")
            fields.setdefault("headers", {})[key.strip()] = content.strip()
        else:
            raise ValueError(f"'{part}' is not known here: {_FORM}, status=, header=NAME:VALUE")
    return fields


def _what(text: str) -> dict[str, Any]:
    kind, _, value = text.partition("=")
    if kind == "cmd" and value:
        return {"kind": "exec", "command": shlex.split(value)}
    if kind == "tcp":
        return {"kind": "tcp", "port": parse_count(value)}
    if kind in ("http", "https"):
        port, _, path = value.partition("/")
        return {"kind": "http", "scheme": kind, "port": parse_count(port), "path": f"/{path}"}
    raise ValueError(f"'{text}' says not what to do: {_FORM}")


_PROBE = Parsed("probe", parse_probe)


def health_options(command: F) -> F:
    """Decorate a command with the flags."""
    for name, text in (("liveness", "kill and replace it"), ("readiness", "send it no requests")):
        command = click.option(
            f"--{name}",
            type=_PROBE,
            help=f"While this probe fails, {text} (http=8080/path,interval=2s; none)",
        )(command)
    command = click.option("--no-healthcheck", cls=Switch, help="Disable any HEALTHCHECK of the image")(
        command
    )
    for name, (kind, text) in reversed(_FIELDS.items()):
        command = click.option(f"--health-{name}", type=kind, help=text)(command)
    return click.option("--health-cmd", help="Command to run to check health")(command)


def apply_health(container: types_pb2.ContainerSpec, given: Mapping[str, Any]) -> None:
    """Change the spec as the flags say; what was not given stays.  Raises ValueError with a sentence."""
    names = [name for name in ("cmd", *_FIELDS) if given[f"health_{name.replace('-', '_')}"] is not None]
    if given["no_healthcheck"]:
        if names:
            raise ValueError("--no-healthcheck conflicts with --health-* options")
        container.health.Clear()
        container.health.test.append("NONE")
    elif names:
        _apply_check(container.health, given, names)
    for name in ("readiness", "liveness"):
        if given[name] is not None:
            container.ClearField(name)
            _fill(getattr(container, name), given[name])


def _apply_check(health: types_pb2.HealthSpec, given: Mapping[str, Any], names: list[str]) -> None:
    if list(health.test) == ["NONE"]:
        del health.test[:]
    for name in names:
        value = given[f"health_{name.replace('-', '_')}"]
        if name == "cmd":
            health.test[:] = ["CMD-SHELL", value] if value else []
        else:
            setattr(health, name.replace("-", "_"), value)


def _fill(probe: types_pb2.ProbeSpec, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        if name == "command":
            probe.command.extend(value)
        elif name == "headers":
            for key, content in value.items():
                probe.headers[key] = content
        else:
            setattr(probe, name, value)


def health_lines(spec: types_pb2.ContainerSpec) -> list[str]:
    """What ``inspect --pretty`` shows of it."""
    lines = []
    if spec.HasField("health"):
        lines += ["Healthcheck:", *_check_lines(spec.health)]
    for name in ("readiness", "liveness"):
        if spec.HasField(name):
            lines.append(f" {name.capitalize()}:\t{_probe_text(getattr(spec, name))}")
    return lines


def _check_lines(health: types_pb2.HealthSpec) -> list[str]:
    rows = [(" Test", " ".join(health.test))] if health.test else []
    for name in ("interval", "timeout", "start_period", "start_interval"):
        value = getattr(health, name)
        if value:
            rows.append((f" {name.replace('_', ' ').capitalize()}", format_duration(value)))
    if health.retries:
        rows.append((" Retries", str(health.retries)))
    return [f"{name} = {value}" for name, value in rows]


def _probe_text(probe: types_pb2.ProbeSpec) -> str:
    what = {
        "exec": " ".join(probe.command),
        "tcp": f"tcp {probe.port}",
        "http": f"{probe.scheme or 'http'} {probe.port}{probe.path}",
    }.get(probe.kind, probe.kind)
    times = [
        f"{name} {format_duration(getattr(probe, name))}"
        for name in ("interval", "timeout", "delay")
        if getattr(probe, name)
    ]
    counts = [
        f"{name} {getattr(probe, name)}"
        for name in ("failures", "successes", "status")
        if getattr(probe, name)
    ]
    return ", ".join([what, *times, *counts])
