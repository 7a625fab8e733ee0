"""Services in Docker's own JSON shape: what ``inspect`` prints and ``--format`` reaches into.  Pure.

Durations become nanoseconds, times RFC 3339; keys stand in Docker's order and empty ones are left out
where Docker leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import TYPE_CHECKING

from swarmd.cli.units import nanoseconds, rfc3339
from swarmd.cli.views_container import Json, container_spec, filled, resources

if TYPE_CHECKING:
    from swarmd.rpc.v1 import control_pb2, types_pb2

NONE: Mapping[str, Sequence[str]] = MappingProxyType({})


def service(view: control_pb2.ServiceView, prefixes: Mapping[str, Sequence[str]] = NONE) -> Json:
    """A service with its endpoint, update status and counts.

    ``prefixes``: of its networks, by id; virtual addresses are shown with their length, as Docker does.
    """
    it = view.service
    out = meta(it) | {"Spec": service_spec(it.spec)}
    if it.HasField("previous_spec"):
        out["PreviousSpec"] = service_spec(it.previous_spec)
    out["Endpoint"] = {"Spec": endpoint_spec(it.spec)} | filled(
        Ports=ports(it.ports), VirtualIPs=_virtual_ips(it.vips, prefixes)
    )
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
        "EndpointSpec": endpoint_spec(spec),
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
        **filled(Networks=[_attachment(one) for one in template.networks]),
        **_draining(template),
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


def endpoint_spec(spec: types_pb2.ServiceSpec) -> Json:
    """``EndpointSpec``; ``IngressSource`` is none of Docker's."""
    return {"Mode": spec.endpoint_mode or "vip"} | filled(
        IngressSource=spec.ingress_source, Ports=ports(spec.ports)
    )


def ports(specs: Iterable[types_pb2.PortSpec]) -> list[Json]:
    """Published ports.  What follows ``PublishMode`` is none of Docker's."""
    return [
        {
            "Protocol": port.protocol,
            "TargetPort": port.target,
            **filled(PublishedPort=port.published),
            "PublishMode": port.mode,
            **filled(
                PublishedEnd=port.published_end,
                HostIP=port.host_ip,
                Allow=list(port.allow),
                Sticky=port.sticky,
                Host=port.host,
                Path=port.path,
                TLS=port.tls,
            ),
        }
        for port in specs
    ]


def address_with_length(address: str, prefixes: Sequence[str]) -> str:
    """``10.0.1.2/24``: an address with the length of the prefix that it is in."""
    inside = (text for text in prefixes if ip_address(address) in ip_network(text, strict=False))
    length = next(inside, "").partition("/")[2]
    return f"{address}/{length}" if length else address


def _virtual_ips(vips: Iterable[types_pb2.VirtualIp], prefixes: Mapping[str, Sequence[str]]) -> list[Json]:
    return [
        {"NetworkID": one.network_id, "Addr": address_with_length(address, prefixes.get(one.network_id, ()))}
        for one in vips
        for address in one.addresses
    ]


def _attachment(one: types_pb2.NetworkAttachment) -> Json:
    return {"Target": one.target} | filled(
        Aliases=list(one.aliases),
        DriverOpts=dict(one.options),
        VirtualIP=one.vip,
        Addresses=list(one.addresses),
    )


def _draining(template: types_pb2.TaskTemplate) -> Json:
    given = {"DrainDelay": nanoseconds(template.drain_delay)} if template.HasField("drain_delay") else {}
    return given | filled(DrainTimeout=nanoseconds(template.drain_timeout))


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
