"""The part of ``inspect --pretty`` about a service's containers, with Docker's tabs and spaces.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarmd.cli.health_flags import health_lines
from swarmd.cli.units import format_binary, format_cpus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from swarmd.rpc.v1 import types_pb2


def container(template: types_pb2.TaskTemplate) -> list[str]:
    """``ContainerSpec:`` and what belongs to it; first what Docker shows, then what only we have."""
    spec = template.container
    lines = ["ContainerSpec:", f" Image:\t\t{spec.image}"]
    if spec.args:
        lines.append(f" Args:\t\t{' '.join(spec.args)} ")
    if spec.env:
        lines.append(f" Env:\t\t{' '.join(spec.env)} ")
    if spec.workdir:
        lines.append(f" Dir:\t\t{spec.workdir}")
    lines.append(f" Init:\t\t{str(spec.init).lower()}")
    if spec.user:
        lines.append(f" User: {spec.user}")
    lines += _named(" Groups", spec.groups)
    if spec.privileged:
        lines.append(" Privileged: true")
    if template.runtime:
        lines.append(f" Runtime: {template.runtime}")
    return lines + _security(spec) + _network(spec) + _devices(spec) + _mounts(spec) + health_lines(spec)


def resources(template: types_pb2.TaskTemplate) -> list[str]:
    """``Resources:``."""
    lines = ["Resources:"]
    for title, amount in (("Reservations", template.reservations), ("Limits", template.limits)):
        inner = [f"  CPU:\t\t{format_cpus(amount.nano_cpus)}"] if amount.nano_cpus else []
        inner += [f"  Memory:\t{format_binary(amount.memory)}"] if amount.memory else []
        inner += [f"  Pids:\t\t{amount.pids}"] if amount.pids else []
        inner += _memory(amount) + _shares(amount)
        lines += [f" {title}:", *inner] if inner else []
    return lines


def _memory(amount: types_pb2.Resources) -> list[str]:
    swap = "unlimited" if amount.memory_swap < 0 else format_binary(amount.memory_swap)
    lines = [f"  Memory Swap:\t{swap}"] if amount.memory_swap else []
    if amount.HasField("memory_swappiness"):
        lines.append(f"  Memory Swappiness: {amount.memory_swappiness}")
    if amount.memory_reservation:
        lines.append(f"  Memory Reservation: {format_binary(amount.memory_reservation)}")
    return lines + (["  OOM Kill Disable: true"] if amount.oom_kill_disable else [])


def _shares(amount: types_pb2.Resources) -> list[str]:
    named = {
        "CPU Shares": amount.cpu_shares,
        "CPU Quota": amount.cpu_quota,
        "CPU Period": amount.cpu_period,
        "Cpuset CPUs": amount.cpuset_cpus,
        "Cpuset Mems": amount.cpuset_mems,
        "Blkio Weight": amount.blkio_weight,
        "Read Bps": _throttles(amount.read_bps),
        "Write Bps": _throttles(amount.write_bps),
        "Read IOps": _throttles(amount.read_iops),
        "Write IOps": _throttles(amount.write_iops),
    }
    return [f"  {name}: {value}" for name, value in named.items() if value]


def _throttles(throttles: Iterable[types_pb2.ThrottleSpec]) -> str:
    return " ".join(f"{one.device}:{one.rate}" for one in throttles)


def _security(spec: types_pb2.ContainerSpec) -> list[str]:
    lines: list[str] = []
    if spec.cap_add or spec.cap_drop:
        lines.append("Capabilities:")
        lines += _named(" Add", spec.cap_add) + _named(" Drop", spec.cap_drop)
    if spec.sysctls:
        lines.append("SysCtls:")
        lines += [
            f" {name}: {value}" if value else f" {name}" for name, value in sorted(spec.sysctls.items())
        ]
    if spec.ulimits:
        lines.append("Ulimits:")
        for one in sorted(spec.ulimits, key=lambda one: one.name):
            both = f"{one.soft}" if one.soft == one.hard else f"{one.soft}:{one.hard}"
            lines.append(f" {one.name}: {both}")
    options = ["no-new-privileges"] if spec.no_new_privileges else []
    if spec.seccomp:
        options.append(f"seccomp={'unconfined' if spec.seccomp == 'unconfined' else 'custom'}")
    return lines + _named("Security Options", options)


def _network(spec: types_pb2.ContainerSpec) -> list[str]:
    lines = ["Hosts:", *(f" {line}" for line in spec.hosts)] if spec.hosts else []
    if spec.dns or spec.dns_search or spec.dns_options:
        lines.append("DNS:")
        lines += _named(" Nameservers", spec.dns) + _named(" Search", spec.dns_search)
        lines += _named(" Options", spec.dns_options)
    modes = {"Pid": spec.pid_mode, "Ipc": spec.ipc_mode, "UTS": spec.uts_mode, "Cgroup": spec.cgroupns_mode,
             "User": spec.userns}  # fmt: skip
    if any(modes.values()):
        lines.append("Namespaces:")
        lines += [f" {name}: {mode}" for name, mode in modes.items() if mode]
    return lines


def _devices(spec: types_pb2.ContainerSpec) -> list[str]:
    lines = [
        f" {one.source}:{one.target or one.source}:{one.permissions or 'rwm'}" for one in spec.devices
    ] + [f" {rule}" for rule in spec.device_rules]
    return ["Devices:", *lines] if lines else []


def _mounts(spec: types_pb2.ContainerSpec) -> list[str]:
    lines = ["Mounts:"] if spec.mounts else []
    for mount in spec.mounts:
        lines += [f" Target:\t{mount.target}", f"  Source:\t{mount.source}"]
        lines += [f"  ReadOnly:\t{str(mount.readonly).lower()}", f"  Type:\t\t{mount.kind}"]
    return lines


def _named(name: str, values: Iterable[str]) -> list[str]:
    text = ", ".join(values)
    return [f"{name}: {text}"] if text else []
