"""What a snapshot file holds, as a person or a program reads it; keys and tokens are left out."""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from swarmd.cli.table import layout
from swarmd.cli.units import format_decimal, rfc3339
from swarmd.kit.go_values import go_json
from swarmd.model.errors import Invalid
from swarmd.model.objects import Node, Row, Service
from swarmd.model.states import Role
from swarmd.rpc import codec, snapshot_file
from swarmd.rpc.v1 import types_pb2

R = TypeVar("R", bound=Row)


def as_text(data: bytes, name: str) -> str:
    """For a person."""
    about = _about(data, name)
    facts = [
        ("Swarm:", about["ClusterID"]),
        ("Created:", about["CreatedAt"]),
        ("By:", f"swarmd {about['SwarmdVersion']}, format {about['Format']}"),
        ("Position:", f"epoch {about['Epoch']}, change {about['Index']}"),
        ("Size:", format_decimal(about["Size"])),
        ("Checksum:", "right"),
    ]
    lines = layout([[key, str(value)] for key, value in facts])
    lines += ["", *layout([["KIND", "ROWS"], *([kind, str(n)] for kind, n in about["Counts"].items())])]
    if about["Services"]:
        services = [[s["Name"], s["Mode"], str(s["Replicas"] or ""), s["Image"]] for s in about["Services"]]
        lines += ["", *layout([["SERVICE", "MODE", "REPLICAS", "IMAGE"], *services])]
    nodes = [[n["Hostname"], n["Role"], n["Address"], n["ID"]] for n in about["Nodes"]]
    return "\n".join([*lines, "", *layout([["NODE", "ROLE", "ADDRESS", "ID"], *nodes])])


def as_json(data: bytes, name: str) -> str:
    """For a program."""
    return go_json(_about(data, name), indent=4)


def _about(data: bytes, name: str) -> dict[str, Any]:
    header, body = snapshot_file.decode(data, name)
    try:
        rows = types_pb2.StoreSnapshot.FromString(body).rows
        services, nodes = _of(rows, "service", Service), _of(rows, "node", Node)
    except (DecodeError, ValueError) as error:
        raise Invalid(f"The rows of the snapshot {name} cannot be understood: {error}.") from error
    return {
        "ClusterID": header.cluster_id,
        "CreatedAt": rfc3339(header.created_at),
        "SwarmdVersion": header.swarmd,
        "Format": header.format,
        "Epoch": header.epoch,
        "Index": header.index,
        "Size": len(data),
        "Counts": dict(sorted(header.counts.items())),
        "Services": [_service(row) for row in sorted(services, key=lambda row: row.spec.name)],
        "Nodes": [_node(row) for row in sorted(nodes, key=lambda row: (row.description.hostname, row.id))],
    }


def _of(rows: Any, kind: str, row_type: type[R]) -> list[R]:
    return [codec.decode(row_type, row.object) for row in rows if row.kind == kind]


def _service(row: Service) -> dict[str, Any]:
    spec = row.spec
    return {
        "ID": row.id,
        "Name": spec.name,
        "Mode": spec.mode,
        "Replicas": spec.replicas if spec.mode == "replicated" else None,
        "Image": spec.template.container.image.partition("@")[0],
    }


def _node(row: Node) -> dict[str, Any]:
    is_manager = Role.MANAGER in (row.role, row.spec.role)
    return {
        "ID": row.id,
        "Hostname": row.description.hostname,
        "Role": (Role.MANAGER if is_manager else Role.WORKER).value,
        "Address": row.status.address,
    }
