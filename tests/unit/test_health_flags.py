"""The flags about health become a spec, and what cannot be is refused with the way out."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from swarmd.cli.health_flags import apply_health, health_lines, health_options, parse_probe
from swarmd.control.core.probes import probes
from swarmd.model.errors import Invalid
from swarmd.model.health import HealthSpec, ProbeSpec
from swarmd.model.spec import ContainerSpec
from swarmd.rpc.v1 import types_pb2


def applied(*flags: str, to: types_pb2.ContainerSpec | None = None) -> types_pb2.ContainerSpec:
    container = to or types_pb2.ContainerSpec()

    @click.command()
    @health_options
    def command(**given: Any) -> None:
        apply_health(container, given)

    result = CliRunner().invoke(command, list(flags), catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return container


def test_dockers_flags_are_dockers_check() -> None:
    made = applied(
        "--health-cmd", "curl -f http://localhost", "--health-interval", "1m30s", "--health-retries", "5"
    )
    assert list(made.health.test) == ["CMD-SHELL", "curl -f http://localhost"]
    assert (made.health.interval, made.health.retries, made.health.timeout) == (90.0, 5, 0.0)


def test_nothing_given_changes_nothing() -> None:
    before = applied("--health-cmd", "true", "--readiness", "tcp=80")
    assert applied(to=before) == before


def test_the_images_check_is_switched_off_and_on_again() -> None:
    made = applied("--no-healthcheck")
    assert list(made.health.test) == ["NONE"]
    assert list(applied("--health-interval", "5s", to=made).health.test) == []


def test_off_and_on_at_once_is_refused() -> None:
    with pytest.raises(ValueError, match="--no-healthcheck conflicts with --health-"):
        applied("--no-healthcheck", "--health-cmd", "true")


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("none", {}),
        ("tcp=5432", {"kind": "tcp", "port": 5432}),
        ("http=8080/ready", {"kind": "http", "scheme": "http", "port": 8080, "path": "/ready"}),
        ("https=8443", {"kind": "http", "scheme": "https", "port": 8443, "path": "/"}),
        ("cmd=test -f /ready,interval=2s,failures=4", {
            "kind": "exec", "command": ["test", "-f", "/ready"], "interval": 2.0, "failures": 4,
        }),
        ('"cmd=test a,b",timeout=500ms', {"kind": "exec", "command": ["test", "a,b"], "timeout": 0.5}),
        ("http=80/,header=Host: app,status=204", {
            "kind": "http", "scheme": "http", "port": 80, "path": "/", "status": 204,
            "headers": {"Host": "app"},
        }),
    ],
)  # fmt: skip
def test_a_probe_is_one_line(text: str, fields: dict[str, Any]) -> None:
    assert parse_probe(text) == fields


@pytest.mark.parametrize("text", ["", "interval=2s", "tcp=x", "http", "tcp=80,retries=3", "tcp=80,interval"])
def test_what_is_no_probe_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"write cmd=|whole number"):
        parse_probe(text)


def test_none_takes_a_probe_away() -> None:
    made = applied("--liveness", "tcp=80", "--readiness", "tcp=81")
    assert not applied("--liveness", "none", to=made).HasField("liveness")
    assert made.HasField("readiness")


def test_inspect_shows_what_is_probed() -> None:
    made = applied(
        "--health-cmd", "true", "--health-interval", "5s", "--readiness", "http=80/r,interval=2s,failures=4"
    )
    assert health_lines(made) == [
        "Healthcheck:",
        " Test = CMD-SHELL true",
        " Interval = 5s",
        " Readiness:\thttp 80/r, interval 2s, failures 4",
    ]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (ContainerSpec(health=HealthSpec(test=("curl",))), "CMD-SHELL"),
        (ContainerSpec(health=HealthSpec(test=("CMD", "a\0b"))), "zero byte"),
        (ContainerSpec(health=HealthSpec(interval=0.0001)), "health-interval must be between 1ms"),
        (ContainerSpec(health=HealthSpec(retries=-1)), "health-retries must be between 0"),
        (ContainerSpec(readiness=ProbeSpec()), "readiness probe kind"),
        (ContainerSpec(readiness=ProbeSpec(kind="tcp")), "readiness probe port 0"),
        (ContainerSpec(readiness=ProbeSpec(kind="http", port=80, path="x")), "must begin with /"),
        (ContainerSpec(readiness=ProbeSpec(kind="http", port=80, path="/a b")), "no blanks"),
        (
            ContainerSpec(readiness=ProbeSpec(kind="http", port=80, path="/", headers={"X": "a\r\nY: b"})),
            "header",
        ),
        (ContainerSpec(liveness=ProbeSpec(kind="exec")), "cmd is empty"),
        (ContainerSpec(liveness=ProbeSpec(kind="tcp", port=1, successes=2)), "one success is enough"),
        (ContainerSpec(liveness=ProbeSpec(kind="tcp", port=1, timeout=float("nan"))), "liveness timeout"),
    ],
)
def test_a_probe_that_cannot_be_is_refused(spec: ContainerSpec, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        probes(spec)


def test_what_is_not_set_is_left_to_the_image() -> None:
    probes(
        ContainerSpec(health=HealthSpec(test=("NONE",)), readiness=ProbeSpec(kind="http", port=1, path="/"))
    )
