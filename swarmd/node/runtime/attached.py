"""The volumes and directories of a container that has exited, put back into its layers' detached mount."""

from __future__ import annotations

import contextlib
import errno
import os

from swarmd.kit.tree.confined import held, open_below, open_in_root
from swarmd.node.runtime import kernel
from swarmd.node.runtime.core import linux
from swarmd.node.runtime.port import ContainerConfig, Mount

_PLACE = os.O_PATH | os.O_CLOEXEC
_NOT_HERE = (errno.EINVAL, errno.EPERM)
"""What a kernel before 6.15 says of a mount in a mount that is in no tree."""


def put_back(root: int, config: ContainerConfig) -> None:
    """Attach what the container had mounted, the outermost first, as far as there is a place and a way."""
    for mount in sorted(config.mounts, key=lambda mount: mount.target.count("/")):
        if mount.kind in ("bind", "volume"):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                try:
                    _attach(root, mount)
                except OSError as error:
                    if error.errno in _NOT_HERE:
                        return
                    raise


def _attach(root: int, mount: Mount) -> None:
    with (
        held(_source(mount)) as source,
        held(open_in_root(root, mount.target, _PLACE)) as place,
        held(kernel.open_tree(f"/proc/self/fd/{source}")) as tree,
    ):
        if mount.readonly:
            kernel.mount_setattr(tree, linux.MOUNT_ATTR_RDONLY, recursive=False)
        kernel.move_mount(tree, place)


def _source(mount: Mount) -> int:
    source = os.open(mount.source, _PLACE)
    if not mount.subpath:
        return source
    with held(source):
        return open_below(source, mount.subpath, _PLACE)
