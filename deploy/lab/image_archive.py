"""Writes images as ``docker save`` archives whose bytes depend on nothing but their content."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MTIME = 1_514_764_800  # 2018-01-01, of every file in every image
CREATED = "2018-01-01T00:00:00Z"
ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Node:
    """One file of a layer: content, or where a symbolic link points; neither makes a directory."""

    mode: int = 0o644
    data: bytes | None = None
    link: str | None = None


Layer = Mapping[str, Node]


def directory(mode: int = 0o755) -> Node:
    """A directory."""
    return Node(mode)


def symlink(target: str) -> Node:
    """A symbolic link."""
    return Node(0o777, link=target)


def file(data: bytes, mode: int = 0o644) -> Node:
    """A regular file."""
    return Node(mode, data=data)


def layer_tar(layer: Layer) -> bytes:
    """The layer as a tar: sorted, owned by root, with parents and one time for all."""
    nodes = dict(layer)
    for name in layer:
        for parent in list(Path(name).parents)[:-1]:
            nodes.setdefault(str(parent), directory())
    return _tar({name: nodes[name] for name in sorted(nodes)})


def write_archive(
    path: Path, tag: str, layers: Sequence[bytes], machine: str, run: Mapping[str, object]
) -> None:
    """Write the image ``tag`` with these layer tars, bottom first; ``run`` is its Config."""
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    config = _json({
        "architecture": ARCHES[machine],
        "config": run,
        "created": CREATED,
        "history": [{"created": CREATED, "created_by": "deploy/lab/build_images.py"} for _ in layers],
        "os": "linux",
        "rootfs": {"diff_ids": [f"sha256:{digest}" for digest in digests], "type": "layers"},
    })  # fmt: skip
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    parts = [f"{digest}/layer.tar" for digest in digests]
    nodes = {part: file(layer) for part, layer in zip(parts, layers, strict=True)}
    nodes |= {digest: directory() for digest in digests}
    nodes[name] = file(config)
    nodes["manifest.json"] = file(_json([{"Config": name, "Layers": parts, "RepoTags": [tag]}]))
    temp = path.with_suffix(".part")
    temp.write_bytes(_tar({each: nodes[each] for each in sorted(nodes)}))
    temp.replace(path)


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _tar(nodes: Layer) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, node in nodes.items():
            tar.addfile(_header(name, node), io.BytesIO(node.data or b""))
    return out.getvalue()


def _header(name: str, node: Node) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = node.mode, MTIME
    if node.link is not None:
        info.type, info.linkname = tarfile.SYMTYPE, node.link
    elif node.data is None:
        info.type = tarfile.DIRTYPE
    else:
        info.size = len(node.data)
    return info
