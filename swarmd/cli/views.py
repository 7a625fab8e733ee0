"""Services in Docker's own JSON shape: what ``inspect`` prints and ``--format`` reaches into.  Pure.

Durations become nanoseconds, times RFC 3339; keys stand in Docker's order and empty ones are left out
where Docker leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from swarmd.cli.units import nanoseconds, rfc3339
from swarmd.cli.views_container import Json, container_spec, filled, resources

if TYPE_CHECKING:
    from swarmd.rpc.v1 import control_pb2, types_pb2


def service(view: control_pb2.ServiceView) -> Json:
    """A service with its endpoint, update status and counts."""
    it = view.service
    out = meta(it) | {"Spec": service_spec(it.spec)}
    if it.HasField("previous_spec"):
        out["PreviousSpec"] = service_spec(it.previous_spec)
    out["Endpoint"] = {"Spec": endpoint_spec(it.spec.ports)} | filled(Ports=ports(it.ports))
    if it.HasField("update_status"):
        out["UpdateStatus"] = _update_status(it.update_status)
    out["ServiceStatus"] = {"RunningTasks": view.running, "DesiredTasks": view.desired}
    return out


def meta(it: types_pb2.Service | types_pb2.Node) -> Json:
    """The four fields every object begins with."""
    return {
        "ID": it.id,
        "Version": {"Index": it.version},
        "CreatedAt": rfc3339(it.created_at),
        "UpdatedAt": rfc3339(it.updated_at),
    }


def service_spec(spec: types_pb2.ServiceSpec) -> Json:
    """``Spec`` and ``PreviousSpec``."""
    return {
        "Name": spec.name,
        "Labels": dict(spec.labels),
        "TaskTemplate": task_template(spec.template),
        "Mode": mode(spec),
        "UpdateConfig": update_config(spec.update),
        "RollbackConfig": update_config(spec.rollback),
        "EndpointSpec": endpoint_spec(spec.ports),
    }


def mode(spec: types_pb2.ServiceSpec) -> Json:
    """``{"Replicated": {"Replicas": 3}}`` or ``{"Global": {}}``."""
    return {"Global": {}} if spec.mode == "global" else {"Replicated": {"Replicas": spec.replicas}}


def task_template(template: types_pb2.TaskTemplate) -> Json:
    """``Spec.TaskTemplate``."""
    restart, placement = template.restart, template.placement
    return {
        "ContainerSpec": container_spec(template.container),
        "Resources": resources(template),
        "RestartPolicy": {
            "Condition": restart.condition,
            "Delay": nanoseconds(restart.delay),
            "MaxAttempts": restart.max_attempts,
            **filled(Window=nanoseconds(restart.window)),
        },
        "Placement": filled(Constraints=list(placement.constraints), MaxReplicas=placement.max_replicas),
        "ForceUpdate": template.force_update,
        "Runtime": "container",
        **filled(ContainerRuntime=template.runtime),
    }


def update_config(config: types_pb2.UpdateConfig) -> Json:
    """``UpdateConfig`` and ``RollbackConfig``."""
    return {
        "Parallelism": config.parallelism,
        **filled(Delay=nanoseconds(config.delay)),
        "FailureAction": config.failure_action,
        "Monitor": nanoseconds(config.monitor),
        "MaxFailureRatio": _number(config.max_failure_ratio),
        "Order": config.order,
    }


def endpoint_spec(specs: Iterable[types_pb2.PortSpec]) -> Json:
    """``EndpointSpec``."""
    return {"Mode": "vip"} | filled(Ports=ports(specs))


def ports(specs: Iterable[types_pb2.PortSpec]) -> list[Json]:
    """Published ports."""
    return [
        {
            "Protocol": port.protocol,
            "TargetPort": port.target,
            **filled(PublishedPort=port.published),
            "PublishMode": port.mode,
        }
        for port in specs
    ]


def _update_status(status: types_pb2.UpdateStatus) -> Json:
    return {
        "State": status.state,
        "StartedAt": rfc3339(status.started_at),
        **({"CompletedAt": rfc3339(status.completed_at)} if status.completed_at else {}),
        "Message": status.message,
        **filled(FailedTasks=list(status.failed_tasks)),
    }


def _number(value: float) -> float:
    return int(value) if value == int(value) else value
