"""An image in Docker's own JSON shape.  Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from swarmd.cli.units import rfc3339
from swarmd.cli.views_container import Json, filled

if TYPE_CHECKING:
    from swarmd.rpc.v1 import node_pb2

_EMPTY_CONFIG: Json = {
    "User": "",
    "Env": None,
    "Cmd": None,
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}
"""What Docker shows of a configuration that says nothing."""


def image(answer: node_pb2.GetImageResponse) -> Json:
    """An image, with what its own configuration and manifest say."""
    it = answer.image
    config: dict[str, Any] = json.loads(answer.config_json or b"{}")
    history: list[Json] = config.get("history") or []
    return {
        "Id": it.id,
        "RepoTags": [ref for ref in it.refs if "@" not in ref],
        "RepoDigests": list(it.digests),
        "Parent": "",
        "Comment": history[-1].get("comment", "") if history else "",
        "Created": config.get("created") or rfc3339(it.created_at),
        "DockerVersion": config.get("docker_version", ""),
        "Author": config.get("author", ""),
        "Config": {**_EMPTY_CONFIG, **(config.get("config") or {})},
        "Architecture": config.get("architecture", ""),
        **filled(Variant=config.get("variant")),
        "Os": config.get("os", ""),
        "Size": it.size,
        "GraphDriver": {"Name": "overlay", "Data": None},
        "RootFS": {
            "Type": "layers",
            "Layers": (config.get("rootfs") or {}).get("diff_ids") or [],
        },
        "Descriptor": {
            "mediaType": _media_type(answer.manifest_json),
            "digest": it.digest,
            "size": len(answer.manifest_json),
        },
        "History": history,
    }


def _media_type(manifest: bytes) -> str:
    found: dict[str, Any] = json.loads(manifest or b"{}")
    return str(found.get("mediaType") or "application/vnd.oci.image.manifest.v1+json")
