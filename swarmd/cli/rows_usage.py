"""What images, containers, volumes and the build cache of a node take, as rows of ``system df``.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from swarmd.cli.listing import Layout, Row, listing
from swarmd.cli.rows_image import image_rows
from swarmd.cli.rows_volume import volume_rows
from swarmd.cli.states import ago
from swarmd.cli.table import truncate_id
from swarmd.cli.units import format_decimal

if TYPE_CHECKING:
    from swarmd.rpc.v1 import containers_pb2, images_pb2

_DIGITS = 4
_UP = ("running", "paused", "restarting")

SUMMARY = Layout(
    ("Type", "TotalCount", "Active", "Size", "Reclaimable"),
    {
        "Type": "TYPE",
        "TotalCount": "TOTAL",
        "Active": "ACTIVE",
        "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    },
    "Type",
)
IMAGES = Layout(
    ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"),
    {
        "Repository": "REPOSITORY",
        "Tag": "TAG",
        "ID": "IMAGE ID",
        "CreatedSince": "CREATED",
        "Size": "SIZE",
        "SharedSize": "SHARED SIZE",
        "UniqueSize": "UNIQUE SIZE",
        "Containers": "CONTAINERS",
    },
)
CONTAINERS = Layout(
    ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"),
    {
        "ID": "CONTAINER ID",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "LocalVolumes": "LOCAL VOLUMES",
        "Size": "SIZE",
        "RunningFor": "CREATED",
        "Status": "STATUS",
        "Names": "NAMES",
    },
)
VOLUMES = Layout(("Name", "Links", "Size"), {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"}, "Name")
CACHE = Layout(
    ("ID", "CacheType", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Shared"),
    {
        "ID": "CACHE ID",
        "CacheType": "CACHE TYPE",
        "Size": "SIZE",
        "CreatedSince": "CREATED",
        "LastUsedSince": "LAST USED",
        "UsageCount": "USAGE",
        "Shared": "SHARED",
    },
)


def summary_rows(usage: images_pb2.GetUsageResponse) -> list[Row]:
    """One row a kind of thing, in Docker's order."""
    idle = [each for each in usage.containers if not is_up(each.container)]
    unused = [each for each in usage.volumes if not each.users]
    cache = [each for each in usage.cache if not each.shared]  # the others are counted with the images
    idle_cache = [each for each in cache if not each.in_use]
    return [
        _row("Images", len(usage.images), sum(bool(each.image.users) for each in usage.images),
             usage.images_size, usage.images_reclaimable),
        _row("Containers", len(usage.containers), len(usage.containers) - len(idle),
             _sum(usage.containers), _sum(idle)),
        _row("Local Volumes", len(usage.volumes), len(usage.volumes) - len(unused),
             _sum(usage.volumes), _sum(unused)),
        _row("Build Cache", len(usage.cache), sum(each.in_use for each in usage.cache),
             _sum(cache), _sum(idle_cache), percent=False),
    ]  # fmt: skip


def is_up(container: containers_pb2.ContainerView) -> bool:
    """Whether it runs, or will in a moment."""
    return container.status in _UP


def _sum(found: Iterable[object]) -> int:
    return sum(max(0, getattr(each, "size", 0)) for each in found)


def _row(kind: str, total: int, active: int, size: int, free: int, *, percent: bool = True) -> Row:
    share = f" ({free * 100 // size}%)" if percent and size > 0 else ""
    return {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": format_decimal(size, _DIGITS),
        "Reclaimable": f"{format_decimal(free, _DIGITS)}{share}",
    }


def detailed_rows(
    usage: images_pb2.GetUsageResponse, containers: list[Row], now: float
) -> dict[str, list[Row]]:
    """The tables of ``-v`` under the names that templates know.  ``containers``: cells of ``usage``'s."""
    sized = zip(usage.containers, containers, strict=True)
    return {
        "Images": [row for each in usage.images for row in _images(each, now)],
        "Containers": [
            {
                **row,
                "Size": format_decimal(each.size),
                "LocalVolumes": str(each.volumes),
            }
            for each, row in sized
        ],
        "Volumes": volume_rows(usage.volumes),
        "BuildCache": [_cache(each, now) for each in usage.cache],
    }


def _images(each: images_pb2.ImageUsage, now: float) -> list[Row]:
    sizes = {
        "Size": format_decimal(each.size),
        "SharedSize": format_decimal(each.shared),
        "UniqueSize": format_decimal(each.size - each.shared),
    }
    return [{**row, **sizes} for row in image_rows([each.image], now)[:1]]


def _cache(each: images_pb2.CacheUsage, now: float) -> Row:
    return {
        "ID": truncate_id(each.id),
        "CacheType": each.kind,
        "Description": each.description,
        "Size": format_decimal(each.size),
        "CreatedSince": ago(each.created_at, now) if each.created_at else "",
        "LastUsedSince": ago(each.used_at, now) if each.used_at else "",
        "UsageCount": str(each.count),
        "InUse": str(each.in_use).lower(),
        "Shared": str(each.shared).lower(),
    }


def detailed_lines(found: dict[str, list[Row]], cache_size: int) -> list[str]:
    """What ``-v`` prints."""
    return [
        "Images space usage:", "", *listing(IMAGES, found["Images"], None), "",
        "Containers space usage:", "", *listing(CONTAINERS, found["Containers"], None), "",
        "Local Volumes space usage:", "", *listing(VOLUMES, found["Volumes"], None), "",
        f"Build cache usage: {format_decimal(cache_size, _DIGITS)}", "",
        *listing(CACHE, found["BuildCache"], None),
    ]  # fmt: skip
