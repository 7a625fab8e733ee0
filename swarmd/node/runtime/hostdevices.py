"""The device nodes of this machine that a container asks for."""

from __future__ import annotations

import contextlib
import os
import stat

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import oci
from swarmd.node.runtime.port import ContainerConfig, Device

# Every container has these of its own.
_OWN = frozenset({"pts", "shm", "fd", "mqueue", "ptmx", "console", "core", "stdin", "stdout", "stderr"})


def nodes(config: ContainerConfig) -> tuple[oci.Device, ...]:
    """Those of ``config.devices`` (a directory stands for all in it); of a privileged container all of /dev.

    Raises :class:`Invalid` for one that is not there.
    """
    found: dict[str, oci.Device] = {}
    if config.privileged:
        _directory("/dev", "/dev", found)
    for device in config.devices:
        _asked(device, found)
    return tuple(found.values())


def _asked(device: Device, found: dict[str, oci.Device]) -> None:
    target = device.target or device.source
    try:
        mode = os.stat(device.source).st_mode
    except OSError as error:
        raise Invalid(f"device {device.source}: {error.strerror} on this node") from None
    if stat.S_ISDIR(mode):
        _directory(device.source, target, found)
    elif not _node(device.source, target, found):
        raise Invalid(f"device {device.source} is not a device node on this node")


def _directory(source: str, target: str, found: dict[str, oci.Device]) -> None:
    for entry in os.scandir(source):
        path = f"{target}/{entry.name}"
        if path.removeprefix("/dev/") in _OWN or entry.is_symlink():
            continue
        with contextlib.suppress(FileNotFoundError):  # it was unplugged while we looked
            if entry.is_dir():
                _directory(entry.path, path, found)
            else:
                _node(entry.path, path, found)


def _node(source: str, target: str, found: dict[str, oci.Device]) -> bool:
    there = os.stat(source)
    kind = "c" if stat.S_ISCHR(there.st_mode) else "b" if stat.S_ISBLK(there.st_mode) else None
    if kind is None:
        return False
    found[target] = oci.Device(
        type="c" if kind == "c" else "b",
        path=target,
        major=os.major(there.st_rdev),
        minor=os.minor(there.st_rdev),
        file_mode=stat.S_IMODE(there.st_mode),
        uid=there.st_uid,
        gid=there.st_gid,
    )
    return True
