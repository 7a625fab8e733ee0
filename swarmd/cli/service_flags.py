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
from swarmd.cli.network_text import parse_network
from swarmd.cli.port_text import parse_ports
from swarmd.cli.spec_text import parse_labels

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


def _one_of(*words: str) -> Parsed:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"write {', '.join(words[:-1])} or {words[-1]}")
        return text

    return Parsed("string", parse)


ENDPOINT = _one_of("vip", "dnsrr")
SOURCE = _one_of("keep", "masquerade", "proxy-protocol")
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
    Field("endpoint-mode", ENDPOINT, "endpoint_mode", "Its name leads to: vip|dnsrr (its tasks' addresses)"),
    Field("ingress-source", SOURCE, "ingress_source",
          "Client address behind published ports: keep|masquerade|proxy-protocol (keep)"),
    Field("drain-delay", DURATION, "template.drain_delay", "A task to be stopped still serves so long (2s)"),
    Field("drain-timeout", DURATION, "template.drain_timeout", "Then its connections may take so long (0s)"),
)  # fmt: skip


def _service_labels(spec: types_pb2.ServiceSpec, add: Sequence[str], remove: Sequence[str]) -> None:
    edit.edit_labels(spec.labels, parse_labels(add), remove)


PORT = Parsed("port", parse_ports)
NETWORK = Parsed("network", parse_network)
COLLECTIONS: tuple[Collection, ...] = (
    Collection("label", TEXT, TEXT, _service_labels, "Service label", "KEY", "-l"),
    Collection("constraint", TEXT, TEXT, edit.edit_constraints, "Placement constraint", "TEXT"),
    Collection(
        "publish",
        PORT,
        PORT,
        edit.edit_ports,
        "Published port ([ADDRESS:][PUBLISHED:]TARGET[/PROTOCOL], or published=…,target=…)",
        "TARGET-PORT",
        "-p",
    ),
    Collection(
        "network",
        NETWORK,
        NETWORK,
        edit.edit_networks,
        "Network of its tasks (NAME, or name=…,alias=…,vip=…,ip=…)",
        "NETWORK",
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
