"""The device nodes of this machine that a container asks for."""

from __future__ import annotations

import os
import stat

from swarmd.node.runtime.core import oci
from swarmd.node.runtime.port import ContainerConfig

# Every container has these of its own.
_OWN = frozenset({"pts", "shm", "fd", "mqueue", "ptmx", "console", "core", "stdin", "stdout", "stderr"})


def nodes(config: ContainerConfig) -> tuple[oci.Device, ...]:
    """Those of ``config.devices``, which are there and are devices; of a privileged container all of /dev."""
    found: dict[str, oci.Device] = {}
    if config.privileged:
        _directory("/dev", "/dev", found)
    for device in config.devices:
        _node(device.source, device.target or device.source, found)
    return tuple(found.values())


def _directory(source: str, target: str, found: dict[str, oci.Device]) -> None:
    for entry in os.scandir(source):
        path = f"{target}/{entry.name}"
        if path.removeprefix("/dev/") in _OWN or entry.is_symlink():
            continue
        if entry.is_dir():
            _directory(entry.path, path, found)
        else:
            _node(entry.path, path, found)


def _node(source: str, target: str, found: dict[str, oci.Device]) -> None:
    there = os.stat(source)
    kind = "c" if stat.S_ISCHR(there.st_mode) else "b" if stat.S_ISBLK(there.st_mode) else None
    if kind is None:
        return
    found[target] = oci.Device(
        type="c" if kind == "c" else "b",
        path=target,
        major=os.major(there.st_rdev),
        minor=os.minor(there.st_rdev),
        file_mode=stat.S_IMODE(there.st_mode),
        uid=there.st_uid,
        gid=there.st_gid,
    )
