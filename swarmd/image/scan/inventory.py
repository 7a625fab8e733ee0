"""What is installed in an image: its layers read, in a thread, and every database in them understood."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from swarmd.image.scan import merged
from swarmd.image.scan.core import databases
from swarmd.image.scan.core.packages import PYTHON, Distribution, Inventory, Package, read_os_release
from swarmd.image.store import Rootfs
from swarmd.model.errors import Unavailable

MOST_PACKAGES = 200_000


class Images(Protocol):
    """Unpacked images; raises NotFound, Invalid, Unavailable."""

    async def prepare(self, ref_or_digest: str) -> Rootfs: ...


async def of_image(images: Images, ref: str) -> tuple[str, Inventory]:
    """The manifest's digest, and what is installed.  Raises what preparing the image raises."""
    rootfs = await images.prepare(ref)
    layers = [Path(layer) for layer in rootfs.layers]
    try:
        return rootfs.digest, await asyncio.to_thread(of_layers, layers)
    except OSError as error:
        raise Unavailable(f"the files of image {ref} cannot be read: {error}") from error


def of_layers(layers: Sequence[Path]) -> Inventory:
    """``layers``: unpacked, topmost first.  Blocking."""
    distributions: dict[str, Distribution] = {}
    packages: dict[Package, None] = {}
    problems: list[str] = []
    for path, content in merged.files(layers, _wanted):
        kind = databases.kind_of(path)
        if kind != PYTHON and len(content) >= databases.MOST_BYTES:
            problems.append(f"/{path} is read up to its first {databases.MOST_BYTES >> 20} MiB only")
        text = content.decode("utf-8", "replace")
        path = os.fsencode(path).decode("utf-8", "replace")
        if kind == "os-release":
            distributions[path] = read_os_release(text)
        else:
            packages |= dict.fromkeys(databases.read(kind, path, text))
        if len(packages) > MOST_PACKAGES:
            problems.append(f"there are more than {MOST_PACKAGES} packages: the others are left out")
            break
    order = sorted(packages, key=lambda one: (one.kind, one.name, one.version, one.path))
    # /etc wins, though it is usually a link to the other one.
    about = next((distributions[path] for path in sorted(distributions)), Distribution())
    return Inventory(about, tuple(order), tuple(problems))


def _wanted(path: str) -> int:
    kind = databases.kind_of(path)
    return databases.most_bytes(kind) if kind else 0
