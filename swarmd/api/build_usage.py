"""What the build cache takes on disk, as ``system df`` shows it."""

from __future__ import annotations

import asyncio

from swarmd.node.building.builder import Builder
from swarmd.rpc.v1 import images_pb2


async def cache_usage(builder: Builder) -> list[images_pb2.CacheUsage]:
    """Each layer that the cache remembers, then what contexts and cache mounts take."""
    usage = await builder.usage()
    found: dict[str, images_pb2.CacheUsage] = {}
    for row in await asyncio.to_thread(builder.cache.rows):
        digest = row.outcome.layer.digest if row.outcome.layer is not None else ""
        one = found.setdefault(
            digest or row.key,
            images_pb2.CacheUsage(
                id=row.key[:12],
                kind="regular",
                description=row.text,
                size=row.size,
                created_at=row.outcome.created,
                used_at=row.used,
                digest=digest,
            ),
        )
        one.count += 1
    for kind, size in (("source.local", usage.contexts), ("exec.cachemount", usage.mounts)):
        if size:
            found[kind] = images_pb2.CacheUsage(id=kind, kind=kind, size=size)
    return list(found.values())
