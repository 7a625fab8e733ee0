"""Decide whether a service's health check and probes can be accepted."""

from __future__ import annotations

import math

from swarmd.model.errors import Invalid
from swarmd.model.health import HealthSpec, ProbeSpec
from swarmd.model.spec import ContainerSpec

_SHORTEST = 0.001
_LONGEST = 24 * 3600.0
_MOST = 1000
_MAX_PORT = 65535
_MAX_TEXT = 64 * 1024
_FORMS = 'use CMD and a program with its arguments, CMD-SHELL and a command line, or "NONE"'


def probes(spec: ContainerSpec) -> None:
    """Raises Invalid with the first thing that is wrong."""
    if spec.health is not None:
        _health(spec.health)
    for what, probe in (("readiness", spec.readiness), ("liveness", spec.liveness)):
        if probe is not None:
            _probe(what, probe)


def _health(spec: HealthSpec) -> None:
    for what, value in (
        ("interval", spec.interval),
        ("timeout", spec.timeout),
        ("start-period", spec.start_period),
        ("start-interval", spec.start_interval),
    ):
        _seconds(f"health-{what}", value)
    _count("health-retries", spec.retries)
    test = spec.test
    if test:
        lengths = {"NONE": (1, 1), "CMD": (2, _MOST), "CMD-SHELL": (2, 2)}
        least, most = lengths.get(test[0], (1, 0))
        if not least <= len(test) <= most:
            raise Invalid(f"health check {list(test)!r} cannot be run: {_FORMS}")
        _texts("health check", test)


def _probe(what: str, probe: ProbeSpec) -> None:
    if probe.kind not in ("exec", "http", "tcp"):
        raise Invalid(f'{what} probe kind "{probe.kind}" is not known: use exec, http or tcp')
    for name, value in (("interval", probe.interval), ("timeout", probe.timeout), ("delay", probe.delay)):
        _seconds(f"{what} {name}", value)
    _count(f"{what} failures", probe.failures)
    _count(f"{what} successes", probe.successes)
    if what == "liveness" and probe.successes > 1:
        raise Invalid(f"liveness successes: one success is enough, not {probe.successes}; leave it out")
    if probe.kind == "exec":
        if not probe.command or not probe.command[0]:
            raise Invalid(f"{what} probe: cmd is empty: write the command to run in the container")
        _texts(f"{what} probe", probe.command)
    elif not 1 <= probe.port <= _MAX_PORT:
        raise Invalid(f"{what} probe port {probe.port} must be between 1 and {_MAX_PORT}")
    if probe.kind == "http":
        _http(what, probe)


def _http(what: str, probe: ProbeSpec) -> None:
    if probe.scheme not in ("", "http", "https"):
        raise Invalid(f'{what} probe scheme "{probe.scheme}" is not known: use http or https')
    if not probe.path.startswith("/") or not probe.path.isprintable() or " " in probe.path:
        raise Invalid(f"{what} probe path {probe.path!r} must begin with / and hold no blanks")
    if probe.status and not 100 <= probe.status <= 599:
        raise Invalid(f"{what} probe status {probe.status} must be between 100 and 599")
    for name, value in probe.headers.items():
        if not name.replace("-", "").isalnum() or not value.isprintable():
            raise Invalid(f"{what} probe header {name!r}: {value!r} cannot be sent")


def _seconds(what: str, value: float) -> None:
    if value and not (math.isfinite(value) and _SHORTEST <= value <= _LONGEST):
        raise Invalid(f"{what} must be between 1ms and {_LONGEST / 3600:.0f}h, not {value:g}s")


def _count(what: str, value: int) -> None:
    if not 0 <= value <= _MOST:
        raise Invalid(f"{what} must be between 0 (the default) and {_MOST}, not {value}")


def _texts(what: str, texts: tuple[str, ...]) -> None:
    for text in texts:
        if "\0" in text or len(text) > _MAX_TEXT:
            raise Invalid(f"{what}: {text[:40]!r} holds a zero byte or more than {_MAX_TEXT} characters")
