"""The steps that build a container's file system, run in the cloned child before and after its root turns.

Paths inside the container are looked up below its root without magic links, because an image may put links
to anywhere in place of what is expected.
"""

from __future__ import annotations

import _socket
import errno
import os
import stat

from swarmd.node.runtime import kernel
from swarmd.node.runtime.core import linux

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable

LOOKUP = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS
_SAFE = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
_MAX_LINKS = 40
_MAX_TEXT = 4 * 1024 * 1024


class Child:
    """What the steps hand to each other: bind sources by target, the new root, who to become."""

    def __init__(self, channel: _socket.socket) -> None:
        self.channel = channel
        self.trees: dict[str, int] = {}
        self.root = -1
        self.ids: tuple[int, int, list[int], str] = (0, 0, [0], "/root")


def _private(child: Child) -> None:
    kernel.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)


def _source(child: Child, target: str, source: str, readonly: bool) -> None:
    try:
        tree = kernel.open_tree(source, recursive=True)
    except OSError as error:
        raise OSError(error.errno, f"bind source {source}: {os.strerror(error.errno or 0)}") from None
    flags = linux.MOUNT_ATTR_RDONLY if readonly else 0
    kernel.mount_setattr(tree, flags, recursive=True, propagation=linux.MS_PRIVATE)
    child.trees[target] = tree


def _overlay(child: Child, root: str, lowers: list[str], upper: str, work: str) -> None:
    # By descriptor: the options must fit into one page, and ':' or ',' in a path would need escapes.
    fds = [os.open(path, linux.O_PATH | os.O_DIRECTORY) for path in (*lowers, upper, work)]
    names = [f"/proc/self/fd/{fd}" for fd in fds]
    options = f"lowerdir={':'.join(names[:-2])},upperdir={names[-2]},workdir={names[-1]}"
    kernel.mount("overlay", root, "overlay", 0, options)
    for fd in fds:
        os.close(fd)


def _pivot(child: Child, root: str) -> None:
    os.chdir(root)
    kernel.pivot_root(".", ".")
    kernel.umount(".", linux.MNT_DETACH)
    os.chdir("/")
    child.root = os.open("/", linux.O_PATH | os.O_DIRECTORY)


def _mount(child: Child, source: str, target: str, kind: str, flags: int, data: str | None) -> None:
    _real_directory(child, target)
    kernel.mount(source, target, kind, flags, data)


def _real_directory(child: Child, path: str) -> None:
    lookup = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_SYMLINKS
    try:
        os.close(kernel.openat2(child.root, path, linux.O_PATH | os.O_DIRECTORY, lookup))
    except FileNotFoundError:
        os.mkdir(path, 0o755)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise OSError(
                error.errno, f"{path} in the image must be a directory, not a link or file"
            ) from None
        raise


def _node(child: Child, path: str, major: int, minor: int) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))


def _link(child: Child, target: str, path: str) -> None:
    os.symlink(target, path)


def _sysctl(child: Child, name: str, value: str) -> None:
    write_text("/proc/sys/" + name, value)


def _mask_file(child: Child, path: str) -> None:
    if os.lstat("/dev/null").st_rdev != os.makedev(1, 3):
        raise OSError(errno.ENODEV, "/dev/null is not the null device")
    kernel.mount("/dev/null", path, None, linux.MS_BIND)


def _mask_dir(child: Child, path: str) -> None:
    kernel.mount("tmpfs", path, "tmpfs", linux.MS_RDONLY | _SAFE, "mode=555,size=4k")


def _readonly(child: Child, path: str) -> None:
    kernel.mount(path, path, None, linux.MS_BIND | linux.MS_REC)
    kernel.mount(None, path, None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | _SAFE)


def _remount_readonly(child: Child, path: str, flags: int) -> None:
    kernel.mount(None, path, None, linux.MS_REMOUNT | linux.MS_RDONLY | flags)


def _attach(child: Child, target: str) -> None:
    tree = child.trees.pop(target)
    place = _ensure(child.root, target, directory=stat.S_ISDIR(os.fstat(tree).st_mode))
    kernel.move_mount(tree, place)
    os.close(place)
    os.close(tree)


def _tmpfs(child: Child, target: str, options: str, readonly: bool) -> None:
    place = _ensure(child.root, target, directory=True)
    flags = _SAFE | (linux.MS_RDONLY if readonly else 0)
    kernel.mount("tmpfs", f"/proc/self/fd/{place}", "tmpfs", flags, options)
    os.close(place)


def _ensure(root: int, path: str, *, directory: bool, links: int = 0) -> int:
    """An O_PATH descriptor of ``path`` below ``root``; what is missing is made, as root, 0755 or 0644."""
    try:
        return kernel.openat2(root, path, linux.O_PATH, LOOKUP)
    except FileNotFoundError:
        pass
    above, _, name = path.rstrip("/").rpartition("/")
    parent = _ensure(root, above or "/", directory=True, links=links)
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
            os.close(os.open(name, flags, 0o644, dir_fd=parent))
    except FileExistsError:  # a link to what does not exist: make that
        if links >= _MAX_LINKS:
            raise OSError(errno.ELOOP, f"{path}: too many symbolic links") from None
        target = os.readlink(name, dir_fd=parent)
        target = target if target.startswith("/") else f"{above}/{target}"
        return _ensure(root, target, directory=directory, links=links + 1)
    finally:
        os.close(parent)
    return kernel.openat2(root, path, linux.O_PATH, LOOKUP)


def _workdir(child: Child, path: str) -> None:
    os.close(_ensure(child.root, path, directory=True))


def _readonly_root(child: Child) -> None:
    kernel.mount(None, "/", None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY)


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


STEPS: dict[str, Callable[..., None]] = {
    "private": _private,
    "source": _source,
    "overlay": _overlay,
    "pivot": _pivot,
    "mount": _mount,
    "node": _node,
    "link": _link,
    "sysctl": _sysctl,
    "mask_file": _mask_file,
    "mask_dir": _mask_dir,
    "readonly": _readonly,
    "remount_readonly": _remount_readonly,
    "attach": _attach,
    "tmpfs": _tmpfs,
    "workdir": _workdir,
    "readonly_root": _readonly_root,
}
