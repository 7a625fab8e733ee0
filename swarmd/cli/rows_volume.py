"""Volumes as rows of ``volume ls`` and in Docker's own JSON shape.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from swarmd.cli.listing import Layout, Row
from swarmd.cli.units import format_decimal, rfc3339
from swarmd.cli.views_container import Json

if TYPE_CHECKING:
    from swarmd.rpc.v1 import node_pb2

HEADERS = {
    "Name": "VOLUME NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "CreatedAt": "CREATED AT",
}
VOLUMES = Layout(("Driver", "Name"), HEADERS, "Name")
MEASURED = Layout(("Driver", "Name", "Links", "Size"), HEADERS, "Name")


def volume_rows(volumes: Iterable[node_pb2.Volume]) -> list[Row]:
    """One row a volume, by name."""
    return [
        {
            "Name": it.name,
            "Driver": it.driver,
            "Scope": "local",
            "Mountpoint": it.mountpoint,
            "Labels": ",".join(f"{key}={value}" for key, value in sorted(it.labels.items())),
            "Links": str(len(it.users)),
            "Size": format_decimal(it.size) if it.size >= 0 else "N/A",
            "CreatedAt": rfc3339(it.created_at),
        }
        for it in sorted(volumes, key=lambda it: it.name)
    ]


def volume(it: node_pb2.Volume) -> Json:
    """A volume, for ``inspect``."""
    usage = {"UsageData": {"RefCount": len(it.users), "Size": it.size}} if it.size >= 0 else {}
    return {
        "CreatedAt": rfc3339(it.created_at),
        "Driver": it.driver,
        "Labels": dict(it.labels) or None,
        "Mountpoint": it.mountpoint,
        "Name": it.name,
        "Options": None,
        "Scope": "local",
        **usage,
    }
