"""``inspect --pretty`` for services and nodes, with Docker's tabs and spaces.  Pure: lists of lines."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from swarmd.cli.pretty_container import container, resources
from swarmd.cli.states import ago
from swarmd.cli.units import format_binary, format_cpus, format_duration, human_duration, rfc3339

if TYPE_CHECKING:
    from swarmd.rpc.v1 import control_pb2, types_pb2

NAMELESS: Mapping[str, str] = MappingProxyType({})


def service(view: control_pb2.ServiceView, now: float, networks: Mapping[str, str] = NAMELESS) -> list[str]:
    """A service; begins and ends with an empty line, as Docker's does.  ``networks``: names by id."""
    it = view.service
    spec = it.spec
    return [
        "",
        f"ID:\t\t{it.id}",
        f"Name:\t\t{spec.name}",
        *_labels(spec.labels.items()),
        *_mode(spec),
        *(_update_status(it.update_status, now) if it.HasField("update_status") else []),
        *_placement(spec.template.placement),
        *_update_config("UpdateConfig", "Update order:     ", spec.update),
        *_update_config("RollbackConfig", "Rollback order:   ", spec.rollback),
        *container(spec.template),
        *resources(spec.template),
        *_networks(spec.template.networks, networks),
        f"Endpoint Mode:\t{spec.endpoint_mode or 'vip'}",
        *([f" Ingress source:\t{spec.ingress_source}"] if spec.ingress_source else []),
        *_vips(it.vips, networks),
        *_draining(spec.template),
        *_ports(it.ports or spec.ports),
        "",
    ]


def node(view: control_pb2.NodeView) -> list[str]:
    """A node."""
    it, about = view.node, view.node.description
    joined = datetime.datetime.fromtimestamp(it.created_at, datetime.UTC)
    return [
        f"ID:\t\t\t{it.id}",
        *_labels(it.spec.labels.items()),
        f"Hostname:              \t{about.hostname}",
        f"Joined at:             \t{joined:%Y-%m-%d %H:%M:%S}.{joined.microsecond:06d} +0000 utc",
        "Status:",
        f" State:\t\t\t{it.status.state.capitalize()}",
        *([f" Message:              \t{it.status.message}"] if it.status.message else []),
        f" Availability:         \t{it.spec.availability.capitalize()}",
        *([f" Address:\t\t{it.status.address}"] if it.status.address else []),
        *_manager(view),
        "Platform:",
        f" Operating System:\t{about.os}",
        f" Architecture:\t\t{about.arch}",
        "Resources:",
        f" CPUs:\t\t\t{format_cpus(about.nano_cpus)}",
        f" Memory:\t\t{format_binary(about.memory)}",
        f"Engine Version:\t\t{about.engine_version}",
        *_labels(about.labels.items(), "Engine Labels:"),
        *([f"Runtimes:\t\t{' '.join(about.runtimes)}"] if about.runtimes else []),
        *(["Devices:", *(f" {path}" for path in about.devices)] if about.devices else []),
        *_tls(view),
    ]


def _tls(view: control_pb2.NodeView) -> list[str]:
    if not view.root_ca:
        return []
    own = view.node.status.certificate
    lines = ["TLS Info:", " TrustRoot:", view.root_ca.decode("ascii", "replace").rstrip()]
    if own.issuer:
        lines += [f" Issuer Key ID:\t\t{own.issuer}", f" Expires:\t\t{rfc3339(own.valid_until)}"]
    if view.tls_status:
        lines.append(f" Status:\t\t{view.tls_status}")
    return lines


def _labels(labels: Iterable[tuple[str, str]], title: str = "Labels:") -> list[str]:
    lines = [f" {key}={value}" if value else f" {key}" for key, value in sorted(labels)]
    return [title, *lines] if lines else []


def _manager(view: control_pb2.NodeView) -> list[str]:
    if not view.manager_status:
        return []
    leader = view.manager_status == "Leader"
    return [
        "Manager Status:",
        f" Address:\t\t{view.node.raft_address}",
        f" Raft Status:\t\t{'Reachable' if leader else view.manager_status}",
        f" Leader:\t\t{'Yes' if leader else 'No'}",
    ]


def _mode(spec: types_pb2.ServiceSpec) -> list[str]:
    if spec.mode == "global":
        return ["Service Mode:\tGlobal"]
    return ["Service Mode:\tReplicated", f" Replicas:\t{spec.replicas}"]


def _update_status(status: types_pb2.UpdateStatus, now: float) -> list[str]:
    completed = status.state == "completed" and status.completed_at
    return [
        "UpdateStatus:",
        f" State:\t\t{status.state}",
        *([f" Started:\t{ago(status.started_at, now)}"] if status.started_at else []),
        *([f" Completed:\t{human_duration(now - status.completed_at)} ago"] if completed else []),
        f" Message:\t{status.message}",
    ]


def _placement(placement: types_pb2.Placement) -> list[str]:
    lines = ["Placement:"]
    if placement.constraints:
        lines.append(f" Constraints:\t[{' '.join(placement.constraints)}]")
    if placement.max_replicas:
        lines.append(f" Max Replicas Per Node:   {placement.max_replicas}")
    return lines


def _update_config(title: str, order: str, config: types_pb2.UpdateConfig) -> list[str]:
    return [
        f"{title}:",
        f" Parallelism:\t{config.parallelism}",
        *([f" Delay:\t\t{format_duration(config.delay)}"] if config.delay else []),
        f" On failure:\t{config.failure_action}",
        *([f" Monitoring Period: {format_duration(config.monitor)}"] if config.monitor else []),
        f" Max failure ratio: {config.max_failure_ratio:g}",
        f" {order} {config.order}",
    ]


def _networks(networks: Iterable[types_pb2.NetworkAttachment], names: Mapping[str, str]) -> list[str]:
    shown = [names.get(one.target, one.target) for one in networks]
    return [f"Networks: {' '.join(shown)} "] if shown else []


def _vips(vips: Iterable[types_pb2.VirtualIp], names: Mapping[str, str]) -> list[str]:
    lines = [
        f" {names.get(one.network_id, one.network_id)}:\t{', '.join(one.addresses)}"
        for one in vips
        if one.addresses
    ]
    return ["Virtual IPs:", *lines] if lines else []


def _draining(template: types_pb2.TaskTemplate) -> list[str]:
    lines = (
        [f" Delay:\t\t{format_duration(template.drain_delay)}"] if template.HasField("drain_delay") else []
    )
    if template.drain_timeout:
        lines.append(f" Timeout:\t{format_duration(template.drain_timeout)}")
    return ["Draining:", *lines] if lines else []


def _more(port: types_pb2.PortSpec) -> list[str]:
    """What ports have beyond Docker's words, where it was asked for."""
    words = {
        "PublishedEnd": str(port.published_end or ""),
        "HostIP": port.host_ip,
        "Allow": " ".join(port.allow),
        "Sticky": "true" if port.sticky else "",
        "Host": port.host,
        "Path": port.path,
        "TLS": port.tls,
    }
    return [f"  {word} = {value}" for word, value in words.items() if value]


def _ports(ports: Iterable[types_pb2.PortSpec]) -> list[str]:
    lines: list[str] = []
    for port in ports:
        lines += [
            f" PublishedPort = {port.published}",
            f"  Protocol = {port.protocol}",
            f"  TargetPort = {port.target}",
            f"  PublishMode = {port.mode}",
            *_more(port),
        ]
    return ["Ports:", *lines] if lines else []
