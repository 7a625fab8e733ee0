"""The words of states, and the cells tables make of them.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from swarmd.cli.table import ellipsis
from swarmd.cli.units import human_duration

if TYPE_CHECKING:
    from swarmd.rpc.v1 import types_pb2

RUNNING = 512
TASK_STATES = {
    0: "new",
    64: "pending",
    192: "assigned",
    256: "accepted",
    320: "preparing",
    384: "ready",
    448: "starting",
    RUNNING: "running",
    576: "complete",
    640: "shutdown",
    704: "failed",
    768: "rejected",
    800: "remove",
    832: "orphaned",
}
_ERROR_WIDTH = 30


def task_state(number: int) -> str:
    """``running``; a number nobody knows is shown as it is."""
    return TASK_STATES.get(number, str(number))


def is_terminal(number: int) -> bool:
    """Nothing of the task runs any more."""
    return number > RUNNING


def ago(at: float, now: float) -> str:
    """``6 seconds ago``, ``Less than a second ago``."""
    return f"{human_duration(now - at)} ago"


def current_state(status: types_pb2.TaskStatus, now: float) -> str:
    """``Running 6 seconds ago``."""
    return f"{task_state(status.state).capitalize()} {ago(status.at, now).lower()}"


def error_cell(error: str, truncate: bool) -> str:
    """The error quoted, cut at 30 characters when asked."""
    text = " ".join(error.split("\n"))
    text = ellipsis(text, _ERROR_WIDTH) if truncate else text
    return f'"{text}"' if text else ""


def familiar(image: str) -> str:
    """An image's name as people write it: without the registry and directory that are meant anyway."""
    return (
        image.removeprefix("docker.io/").removeprefix("library/") if image.startswith("docker.io/") else image
    )


def image_cell(image: str) -> str:
    """An image's familiar name without its digest."""
    name, _, _ = image.partition("@sha256:")
    return familiar(name or image)


def task_ports_cell(ports: Sequence[types_pb2.PortSpec]) -> str:
    """``*:8080->80/tcp``: what the task itself has open on its node."""
    return ",".join(_range_text(port, port) for port in ports if port.published)


def service_ports_cell(ports: Sequence[types_pb2.PortSpec]) -> str:
    """``*:80->80/tcp, *:8000-8002->80-82/tcp``: ingress ports, neighbours joined to ranges.

    A port of one address has that instead of ``*``, a route what it is for: ``*:80/api->8080/tcp``.
    """
    ranges: list[list[types_pb2.PortSpec]] = []
    shown = (port for port in ports if port.mode == "ingress" and port.published)
    for port in sorted(shown, key=lambda p: (_where(p), p.path, p.protocol, p.published)):
        if ranges and _continues(ranges[-1], port):
            ranges[-1].append(port)
        else:
            ranges.append([port])
    return ", ".join(_range_text(members[0], members[-1]) for members in ranges)


def replicas_cell(spec: types_pb2.ServiceSpec, running: int, desired: int) -> str:
    """``3/5``, with the limit per node when there is one."""
    most = spec.template.placement.max_replicas
    return f"{running}/{desired}" + (f" (max {most} per node)" if most else "")


def _continues(members: list[types_pb2.PortSpec], port: types_pb2.PortSpec) -> bool:
    last = members[-1]
    return (_where(port), port.path, port.protocol, port.published, port.target) == (
        _where(last),
        last.path,
        last.protocol,
        last.published + 1,
        last.target + 1,
    )


def _where(port: types_pb2.PortSpec) -> str:
    """Where it is open: a host name, an address, or everywhere."""
    where = port.host or port.host_ip or "*"
    return f"[{where}]" if ":" in where else where


def _range_text(first: types_pb2.PortSpec, last: types_pb2.PortSpec) -> str:
    published, target = str(first.published), str(first.target)
    if last is not first:
        published, target = f"{published}-{last.published}", f"{target}-{last.target}"
    return f"{_where(first)}:{published}{first.path}->{target}/{first.protocol}"
