"""The rows of ``service ls``, ``service ps`` and ``node ls``.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from swarmd.cli import states
from swarmd.cli.listing import Layout, Row
from swarmd.cli.table import natural_key, truncate_id

if TYPE_CHECKING:
    from swarmd.rpc.v1 import control_pb2

SERVICES = Layout(
    ("ID", "Name", "Mode", "Replicas", "Image", "Ports"),
    {
        "ID": "ID",
        "Name": "NAME",
        "Mode": "MODE",
        "Replicas": "REPLICAS",
        "Image": "IMAGE",
        "Ports": "PORTS",
    },
)
TASKS = Layout(
    ("ID", "Name", "Image", "Node", "DesiredState", "CurrentState", "Error", "Ports"),
    {
        "ID": "ID",
        "Name": "NAME",
        "Image": "IMAGE",
        "Node": "NODE",
        "DesiredState": "DESIRED STATE",
        "CurrentState": "CURRENT STATE",
        "Error": "ERROR",
        "Ports": "PORTS",
    },
)
NODES = Layout(
    ("Marked", "Hostname", "Status", "Availability", "ManagerStatus", "EngineVersion"),
    {
        "Marked": "ID",
        "ID": "ID",
        "Self": "",
        "Hostname": "HOSTNAME",
        "Status": "STATUS",
        "Availability": "AVAILABILITY",
        "ManagerStatus": "MANAGER STATUS",
        "EngineVersion": "ENGINE VERSION",
        "TLSStatus": "TLS STATUS",
        "Address": "ADDRESS",
    },
)


def service_rows(views: Iterable[control_pb2.ServiceView], truncate: bool = True) -> list[Row]:
    """One row a service, by name (``m2`` before ``m10``)."""
    return [
        {
            "ID": truncate_id(view.service.id) if truncate else view.service.id,
            "Name": view.service.spec.name,
            "Mode": view.service.spec.mode,
            "Replicas": states.replicas_cell(view.service.spec, view.running, view.desired),
            "Image": states.image_cell(view.service.spec.template.container.image),
            "Ports": states.service_ports_cell(view.service.ports or view.service.spec.ports),
        }
        for view in sorted(views, key=lambda view: natural_key(view.service.spec.name))
    ]


def task_name(view: control_pb2.TaskView, resolve: bool = True) -> str:
    """``nginx1.2``, or ``agent.<node id>`` of a global service; the service's id when not resolved."""
    task = view.task
    return f"{task.service_name if resolve else task.service_id}.{task.slot or task.node_id}"


def task_rows(
    views: Iterable[control_pb2.TaskView], now: float, *, truncate: bool = True, resolve: bool = True
) -> list[Row]:
    """Tasks by name, newest first within a slot; the older ones are marked `` \\_ ``."""
    newest_first = sorted(views, key=lambda view: -view.task.created_at)
    rows: list[Row] = []
    previous = ""
    for view in sorted(newest_first, key=lambda view: natural_key(task_name(view, resolve))):
        name = task_name(view, resolve)
        rows.append(_task_row(view, f" \\_ {name}" if name == previous else name, now, truncate, resolve))
        previous = name
    return rows


def _task_row(view: control_pb2.TaskView, name: str, now: float, truncate: bool, resolve: bool) -> Row:
    task = view.task
    return {
        "ID": truncate_id(task.id) if truncate else task.id,
        "Name": name,
        "Image": states.image_cell(view.image) if truncate else states.familiar(view.image),
        "Node": (view.node_hostname if resolve else "") or task.node_id,
        "DesiredState": states.task_state(task.desired_state).capitalize(),
        "CurrentState": states.current_state(task.status, now),
        "Error": states.error_cell(task.status.error, truncate),
        "Ports": states.task_ports_cell(view.ports),
    }


def node_rows(views: Iterable[control_pb2.NodeView], answering: str) -> list[Row]:
    """Nodes by host name; ``*`` marks the one with the id ``answering``."""
    rows: list[Row] = []
    for view in sorted(views, key=lambda view: natural_key(view.node.description.hostname)):
        node = view.node
        mine = node.id == answering
        rows.append(
            {
                "Marked": f"{node.id} {'*' if mine else ' '}",
                "ID": node.id,
                "Self": "true" if mine else "",
                "Hostname": node.description.hostname,
                "Status": node.status.state.capitalize(),
                "Availability": node.spec.availability.capitalize(),
                "ManagerStatus": view.manager_status,
                "TLSStatus": view.tls_status or "Unknown",
                "EngineVersion": node.description.engine_version,
                "Address": node.status.address,
            }
        )
    return rows
