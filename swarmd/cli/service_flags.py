"""The flags of ``service create`` and ``service update``: the service's own and its containers'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from swarmd.cli import container_flags
from swarmd.cli import service_edit as edit
from swarmd.cli.flag_table import (
    BYTES,
    COUNT,
    CPUS,
    DURATION,
    RATIO,
    TEXT,
    Collection,
    Entry,
    Field,
    apply_changing,
    apply_making,
    options,
)
from swarmd.cli.grammar import F, Parsed
from swarmd.cli.health_flags import apply_health, health_options
from swarmd.cli.spec_text import parse_labels, parse_port

if TYPE_CHECKING:
    from swarmd.rpc.v1 import types_pb2


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
    *container_flags.FIELDS,
    *container_flags.RESOURCES,
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


PORT = Parsed("port", parse_port)
COLLECTIONS: tuple[Collection, ...] = (
    Collection("label", TEXT, TEXT, _service_labels, "Service label", "KEY", "-l"),
    Collection("constraint", TEXT, TEXT, edit.edit_constraints, "Placement constraint", "TEXT"),
    Collection(
        "publish",
        PORT,
        PORT,
        edit.edit_ports,
        "Published port ([PUBLISHED:]TARGET[/PROTOCOL])",
        "TARGET-PORT",
        "-p",
    ),
    *container_flags.COLLECTIONS,
)
TABLE: tuple[Entry, ...] = (*FIELDS, *container_flags.SETTINGS, *COLLECTIONS)


def create_options(command: F) -> F:
    """Decorate a command with the table's flags as ``service create`` spells them."""
    return options(health_options(command), TABLE)


def update_options(command: F) -> F:
    """Decorate a command with the table's flags as ``service update`` spells them."""
    return options(health_options(command), TABLE, changing=True)


def apply_create(spec: types_pb2.ServiceSpec, given: Mapping[str, Any]) -> None:
    """Everything ``service create`` was told.  Raises ValueError with a sentence."""
    _check_replicas(spec, given)
    apply_making(spec, TABLE, given)
    apply_health(spec.template.container, given)


def apply_update(spec: types_pb2.ServiceSpec, given: Mapping[str, Any]) -> None:
    """Only what ``service update`` was told to change.  Raises ValueError with a sentence."""
    _check_replicas(spec, given)
    apply_changing(spec, TABLE, given)
    apply_health(spec.template.container, given)


def _check_replicas(spec: types_pb2.ServiceSpec, given: Mapping[str, Any]) -> None:
    if given["replicas"] is not None and spec.mode != "replicated":
        raise ValueError("replicas can only be used with replicated mode")
