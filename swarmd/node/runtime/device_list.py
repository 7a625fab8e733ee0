"""Looks at device nodes of this machine: what they are, and which of them containers may be given."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping

from swarmd.model.errors import Invalid

Node = tuple[str, int, int]  # b or c, major, minor


def look_up(paths: Iterable[str]) -> Mapping[str, Node]:
    """Path → what it is; :class:`Invalid` for one that is missing or no device."""
    return {path: _look_up(path) for path in paths}


def block_devices(field: str, paths: Iterable[str]) -> Mapping[str, tuple[int, int]]:
    """Path → (major, minor) of what can be throttled; else :class:`Invalid` naming ``field``."""
    found = {}
    for path in paths:
        kind, major, minor = _look_up(path)
        if kind != "b":
            raise Invalid(f"{field}: {path} is not a block device, so it has no rate to be limited")
        found[path] = (major, minor)
    return found


def _look_up(path: str) -> Node:
    try:
        found = os.stat(path)
    except OSError as error:
        raise Invalid(f"device {path!r}: {error.strerror} on this node") from error
    if not stat.S_ISBLK(found.st_mode) and not stat.S_ISCHR(found.st_mode):
        raise Invalid(f"device {path!r} is not a device on this node")
    kind = "b" if stat.S_ISBLK(found.st_mode) else "c"
    return kind, os.major(found.st_rdev), os.minor(found.st_rdev)
