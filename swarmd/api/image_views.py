"""An image as users see it on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from swarmd.image.core.catalog import ImageInfo
from swarmd.model import image_ref
from swarmd.rpc.v1 import node_pb2 as pb


def image_view(
    info: ImageInfo, *, users: Iterable[str] = (), labels: Mapping[str, str] | None = None
) -> pb.Image:
    """``users``: names of containers that have it; ``labels``: those of its configuration."""
    return pb.Image(
        id=info.id,
        digest=info.digest,
        refs=info.refs,
        created_at=info.created,
        size=info.size,
        digests=repo_digests(info),
        labels=labels,
        users=users,
    )


def repo_digests(info: ImageInfo) -> list[str]:
    """What each of its repositories knows it by: ``nginx@sha256:…``, of the index where it came with one."""
    found = {ref for ref in info.refs if "@" in ref}
    for ref in info.refs:
        name = image_ref.parse(ref).familiar_name()
        if not any(each.startswith(f"{name}@") for each in found):
            found.update(f"{name}@{digest}" for digest in info.indexes or (info.digest,))
    return sorted(found)
