"""Finding places inside a container's root, which its image may have filled with links to anywhere."""

from __future__ import annotations

import _socket
import errno
import os
import stat

from swarmd.node.runtime import kernel, kernel_mounts
from swarmd.node.runtime.core import linux

LOOKUP = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS
STRICT = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_SYMLINKS
_STRICT_TREES = ("/proc", "/sys", "/dev")
_PROC = 0x9FA0
_KERNEL_MAGIC = {_PROC: "proc", 0x62656572: "sysfs"}
_MAX_LINKS = 40
_MAX_TEXT = 4 * 1024 * 1024


class Child:
    """What the steps hand to each other: mount sources by slot, descriptors of roots, who to become."""

    def __init__(self, channel: _socket.socket) -> None:
        self.channel = channel
        self.trees: dict[int, int] = {}
        self.root = self.null = self.proc = self.user_space = -1
        self.ids: tuple[int, int, list[int], str] = (0, 0, [0], "/root")
        self.program = ""
        self.container = 0  # the pid of one that another runtime made


def place(child: Child, path: str, *, directory: bool) -> int:
    """Where to mount: an O_PATH descriptor.  What is missing is made.

    /proc, /sys, /dev and what is below them must really be there, not behind links; and no link elsewhere may
    lead to what the kernel shows.
    """
    if any(path == tree or path.startswith(tree + "/") for tree in _STRICT_TREES):
        try:
            return ensure(child.root, path, directory=directory, resolve=STRICT)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise OSError(
                    error.errno, f"{path} in the image must be a directory, not a link or file"
                ) from None
            raise
    found = ensure(child.root, path, directory=directory)
    kernel_tree = _KERNEL_MAGIC.get(kernel_mounts.filesystem_type(found))
    if kernel_tree is not None:
        os.close(found)
        raise OSError(
            errno.EPERM, f"mount target {path} leads to {kernel_tree}, where nothing may be mounted"
        )
    return found


def ensure(root: int, path: str, *, directory: bool, resolve: int = LOOKUP, links: int = 0) -> int:
    """An O_PATH descriptor of ``path`` below ``root``; what is missing is made, as root, 0755 or 0644."""
    try:
        return kernel.openat2(root, path, linux.O_PATH, resolve)
    except FileNotFoundError:
        pass
    above, _, name = path.rstrip("/").rpartition("/")
    parent = ensure(root, above or "/", directory=True, resolve=resolve, links=links)
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
            os.close(os.open(name, flags, 0o644, dir_fd=parent))
    except FileExistsError:  # a link to what does not exist: make that
        # one of ours to a descriptor, which has only just come to be
        if links >= _MAX_LINKS or kernel_mounts.filesystem_type(parent) == _PROC:
            raise OSError(errno.ELOOP, f"{path}: too many symbolic links") from None
        target = os.readlink(name, dir_fd=parent)
        target = target if target.startswith("/") else f"{above}/{target}"
        return ensure(root, target, directory=directory, resolve=resolve, links=links + 1)
    finally:
        os.close(parent)
    return kernel.openat2(root, path, linux.O_PATH, resolve)


def read_text(root: int, path: str) -> str:
    """A regular file of the container, "" if there is none."""
    try:
        fd = kernel.openat2(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, LOOKUP)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        return os.read(fd, _MAX_TEXT).decode("utf-8", "replace")
    finally:
        os.close(fd)


def write_text(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
