"""The flags of ``service create`` and ``service update``, as one table.

A :class:`Field` sets one field and is spelt the same in both.  A :class:`Collection` is ``--name`` in create
and the pair ``--name-add``, ``--name-rm`` in update.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from swarmd.cli import service_edit as edit
from swarmd.cli.grammar import F, Parsed, Switch
from swarmd.cli.health_flags import apply_health, health_options
from swarmd.cli.spec_text import (
    parse_capability,
    parse_count,
    parse_env,
    parse_labels,
    parse_mount,
    parse_port,
    parse_ratio,
    parse_words,
)
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
CAPABILITY = Parsed("capability", parse_capability)


class Field(NamedTuple):
    """``path`` is where the value goes in a ServiceSpec; ``kind`` None makes a switch."""

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


def _update_fields(prefix: str, what: str) -> tuple[Field, ...]:
    actions = "pause|continue|rollback" if prefix == "update" else "pause|continue"
    return (
        Field(f"{prefix}-parallelism", COUNT, f"{prefix}.parallelism", f"Tasks {what} at once (0 = all)"),
        Field(f"{prefix}-delay", DURATION, f"{prefix}.delay", f"Pause between tasks being {what}"),
        Field(f"{prefix}-monitor", DURATION, f"{prefix}.monitor", f"How long a task {what} must run (5s)"),
        Field(f"{prefix}-failure-action", TEXT, f"{prefix}.failure_action", f"When one fails: {actions}"),
        Field(f"{prefix}-max-failure-ratio", RATIO, f"{prefix}.max_failure_ratio", "Failures to put up with"),
        Field(f"{prefix}-order", TEXT, f"{prefix}.order", "stop-first|start-first"),
    )


FIELDS: tuple[Field, ...] = (
    Field("replicas", COUNT, "replicas", "Number of tasks"),
    Field(
        "replicas-max-per-node", COUNT, "template.placement.max_replicas", "Most tasks on a node (0 = any)"
    ),
    Field("workdir", TEXT, "template.container.workdir", "Working directory in the container", "-w"),
    Field("user", TEXT, "template.container.user", "User name or UID (NAME|UID[:GROUP|GID])", "-u"),
    Field("hostname", TEXT, "template.container.hostname", "Container hostname"),
    Field("entrypoint", WORDS, "template.container.command", "Overwrite the image's entrypoint"),
    Field("stop-signal", TEXT, "template.container.stop_signal", "Signal to stop the container"),
    Field("stop-grace-period", DURATION, "template.container.stop_grace", "Wait before a kill (10s)"),
    Field("init", None, "template.container.init", "Run a small init as the container's first process"),
    Field("read-only", None, "template.container.read_only", "Mount the root filesystem read only"),
    Field(
        "no-new-privileges", None, "template.container.no_new_privileges", "Processes cannot gain privileges"
    ),
    Field("limit-cpu", CPUS, "template.limits.nano_cpus", "Limit CPUs"),
    Field("limit-memory", BYTES, "template.limits.memory", "Limit memory"),
    Field("limit-pids", COUNT, "template.limits.pids", "Limit the number of processes (0 = no limit)"),
    Field("reserve-cpu", CPUS, "template.reservations.nano_cpus", "Reserve CPUs"),
    Field("reserve-memory", BYTES, "template.reservations.memory", "Reserve memory"),
    Field("restart-condition", TEXT, "template.restart.condition", "none|on-failure|any (default any)"),
    Field("restart-delay", DURATION, "template.restart.delay", "Wait before a restart (5s)"),
    Field("restart-max-attempts", COUNT, "template.restart.max_attempts", "Restarts before giving up"),
    Field("restart-window", DURATION, "template.restart.window", "Window in which restarts are counted"),
    *_update_fields("update", "updated"),
    *_update_fields("rollback", "rolled back"),
)


def _service_labels(spec: types_pb2.ServiceSpec, add: Sequence[str], remove: Sequence[str]) -> None:
    edit.edit_labels(spec.labels, parse_labels(add), remove)


def _container_labels(spec: types_pb2.ServiceSpec, add: Sequence[str], remove: Sequence[str]) -> None:
    edit.edit_labels(spec.template.container.labels, parse_labels(add), remove)


def _env(spec: types_pb2.ServiceSpec, add: Sequence[str], remove: Sequence[str]) -> None:
    edit.edit_env(spec, parse_env(add, os.environ), remove)


COLLECTIONS: tuple[Collection, ...] = (
    Collection("label", TEXT, TEXT, _service_labels, "Service label", "KEY", "-l"),
    Collection("container-label", TEXT, TEXT, _container_labels, "Container label", "KEY"),
    Collection("env", TEXT, TEXT, _env, "Environment variable", "NAME", "-e"),
    Collection("constraint", TEXT, TEXT, edit.edit_constraints, "Placement constraint", "TEXT"),
    Collection(
        "publish",
        Parsed("port", parse_port),
        Parsed("port", parse_port),
        edit.edit_ports,
        "Published port ([PUBLISHED:]TARGET[/PROTOCOL])",
        "TARGET-PORT",
        "-p",
    ),
    Collection("mount", Parsed("mount", parse_mount), TEXT, edit.edit_mounts, "Filesystem mount", "TARGET"),
)


def create_options(command: F) -> F:
    """Decorate a command with the table's flags as ``service create`` spells them."""
    for it in reversed(COLLECTIONS):
        names = [_parameter(it.name), *([it.short] if it.short else []), f"--{it.name}"]
        command = click.option(*names, type=it.add, metavar="list", multiple=True, help=it.help)(command)
    return _common_options(command)


def update_options(command: F) -> F:
    """Decorate a command with the table's flags as ``service update`` spells them."""
    for it in reversed(COLLECTIONS):
        for verb, kind, metavar in (("rm", it.remove, it.removed_by), ("add", it.add, "list")):
            text = f"{'Remove' if verb == 'rm' else 'Add or change'}: {it.help}"
            command = click.option(
                f"--{it.name}-{verb}", type=kind, metavar=metavar, multiple=True, help=text
            )(command)
    return _common_options(command)


def apply_fields(spec: types_pb2.ServiceSpec, given: Mapping[str, Any]) -> None:
    """Set the fields whose flags were given.  Raises ValueError for replicas of a global service."""
    for it in FIELDS:
        value = given[_parameter(it.name)]
        if value is not None:
            if it.name == "replicas" and spec.mode != "replicated":
                raise ValueError("replicas can only be used with replicated mode")
            edit.set_path(spec, it.path, value)
    if given["cap_add"] or given["cap_drop"]:
        edit.edit_capabilities(spec, given["cap_add"], given["cap_drop"])
    apply_health(spec.template.container, given)


def apply_create(spec: types_pb2.ServiceSpec, given: Mapping[str, Any]) -> None:
    """Everything ``service create`` was told.  Raises ValueError with a sentence."""
    apply_fields(spec, given)
    for it in COLLECTIONS:
        it.edit(spec, given[_parameter(it.name)], ())


def apply_update(spec: types_pb2.ServiceSpec, given: Mapping[str, Any]) -> None:
    """Only what ``service update`` was told to change.  Raises ValueError with a sentence."""
    apply_fields(spec, given)
    for it in COLLECTIONS:
        add, remove = given[_parameter(f"{it.name}-add")], given[_parameter(f"{it.name}-rm")]
        if add or remove:
            it.edit(spec, add, remove)


def _common_options(command: F) -> F:
    command = health_options(command)
    for name, text in (("drop", "Drop a Linux capability"), ("add", "Add a Linux capability")):
        command = click.option(f"--cap-{name}", type=CAPABILITY, metavar="list", multiple=True, help=text)(
            command
        )
    for it in reversed(FIELDS):
        names = [*([it.short] if it.short else []), f"--{it.name}"]
        if it.kind is None:
            command = click.option(*names, cls=Switch, help=it.help)(command)
        else:
            command = click.option(*names, type=it.kind, help=it.help)(command)
    return command


def _parameter(name: str) -> str:
    return name.replace("-", "_")
