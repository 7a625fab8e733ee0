"""The steps that build a container's file system, run in the cloned child before and after its root turns.

Paths inside the container are looked up below its root without magic links, because an image may put links
to anywhere in place of what is expected; what is mounted goes to the place that was found, by descriptor.
The host's tree goes at once when the root turns: while it lay over the new root, ``/..`` would lead to it.
"""

from __future__ import annotations

import errno
import os
import stat

from swarmd.node.runtime import child_copy, kernel, kernel_mounts
from swarmd.node.runtime.child_paths import LOOKUP, STRICT, Child, ensure, place
from swarmd.node.runtime.core import linux

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable

_SAFE = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV | linux.MOUNT_ATTR_NOEXEC
_BLANK = _SAFE | linux.MOUNT_ATTR_RDONLY
_FIRST_PROC = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_XDEV | linux.RESOLVE_NO_SYMLINKS
_KINDS = {"c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


def _null(child: Child) -> None:
    """The machine's own, because a container may have put anything at its /dev/null."""
    child.null = kernel.open_tree("/dev/null")
    if os.fstat(child.null).st_rdev != os.makedev(1, 3):
        raise OSError(errno.ENODEV, "/dev/null of this machine is not the null device")


def _source(child: Child, slot: int, source: str, subpath: str, recursive: bool, peer: int) -> None:
    home = -1
    try:
        if peer:
            home = os.open("/proc/self/ns/mnt", os.O_RDONLY)
            with_tree = os.open(f"/proc/{peer}/ns/mnt", os.O_RDONLY)
            kernel.setns(with_tree, linux.CLONE_NEWNS)
            os.close(with_tree)
        child.trees[slot] = _take(source, subpath, recursive)
    except OSError as error:
        shown = f"{source}/{subpath}" if subpath else source
        raise OSError(error.errno, f"bind source {shown}: {os.strerror(error.errno or 0)}") from None
    finally:
        if home >= 0:
            kernel.setns(home, linux.CLONE_NEWNS)
            os.close(home)


def _take(source: str, subpath: str, recursive: bool) -> int:
    if not subpath:
        return kernel.open_tree(source, recursive=recursive)
    base = os.open(source, linux.O_PATH)
    inner = kernel.openat2(base, subpath, linux.O_PATH, LOOKUP)
    os.close(base)
    try:
        return kernel.open_tree("", recursive=recursive, directory=inner)
    finally:
        os.close(inner)


def _private(child: Child) -> None:
    kernel.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)


def _rootfs(child: Child, root: str) -> None:
    kernel.mount(root, root, None, linux.MS_BIND | linux.MS_REC)


def _pivot(child: Child, root: str) -> None:
    os.chdir(root)
    turn(child)


def turn(child: Child) -> None:
    """The working directory becomes the root, and the host's tree goes."""
    kernel.pivot_root(".", ".")
    kernel.umount(".", linux.MNT_DETACH)
    os.chdir("/")
    child.root = os.open("/", linux.O_PATH | os.O_DIRECTORY)


def _mount(
    child: Child,
    target: str,
    kind: str,
    source: str,
    options: list[str],
    attributes: int,
    clear: int,
    below: int,
    below_clear: int,
    propagation: list[int],
    copy_up: bool,
) -> None:
    tree = kernel_mounts.new_filesystem(kind, source, options, 0 if copy_up else attributes | below)
    where = place(child, target, directory=True)
    if copy_up:
        child_copy.fill(where, tree)
        kernel.mount_setattr(tree, attributes | below, recursive=False)
    _set_propagation(tree, propagation)
    kernel.move_mount(tree, where)
    os.close(where)
    if kind == "proc" and child.proc < 0:
        child.proc = tree  # what is mounted on it later cannot stand in the way
    else:
        os.close(tree)


def _attach(
    child: Child,
    slot: int,
    target: str,
    attributes: int,
    clear: int,
    below: int,
    below_clear: int,
    propagation: list[int],
    copy_up: bool,
) -> None:
    tree = child.trees.pop(slot)
    where = place(child, target, directory=stat.S_ISDIR(os.fstat(tree).st_mode))
    if copy_up:
        child_copy.fill(where, tree)
    first = propagation[0] if propagation else linux.MS_PRIVATE | linux.MS_REC
    if below or below_clear or first & linux.MS_REC:
        kind = first & ~linux.MS_REC if first & linux.MS_REC else 0
        kernel.mount_setattr(tree, below, clear=below_clear, recursive=True, propagation=kind)
    if attributes or clear:
        kernel.mount_setattr(tree, attributes, clear=clear, recursive=False)
    _set_propagation(tree, propagation if propagation and not first & linux.MS_REC else propagation[1:])
    kernel.move_mount(tree, where)
    os.close(where)
    os.close(tree)


def _set_propagation(tree: int, kinds: list[int]) -> None:
    for kind in kinds:
        recursive = bool(kind & linux.MS_REC)
        kernel.mount_setattr(tree, 0, recursive=recursive, propagation=kind & ~linux.MS_REC)


def _devices(child: Child, nodes: list[tuple[str, str, int, int, int, int, int]]) -> None:
    parents: dict[str, int] = {}
    for path, kind, major, minor, mode, uid, gid in nodes:
        above, _, name = path.rpartition("/")
        if above not in parents:
            parents[above] = place(child, above or "/", directory=True)
        _node(parents[above], name, _KINDS[kind] | mode, os.makedev(major, minor), path)
        if uid or gid:
            os.chown(name, uid, gid, dir_fd=parents[above], follow_symlinks=False)
    for parent in parents.values():
        os.close(parent)


def _node(parent: int, name: str, mode: int, device: int, path: str) -> None:
    try:
        os.mknod(name, mode, device, dir_fd=parent)
    except FileExistsError:
        there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if (stat.S_IFMT(there.st_mode), there.st_rdev) != (stat.S_IFMT(mode), device):
            raise OSError(errno.EEXIST, f"device {path}: something else is there already") from None


def _links(child: Child, links: list[tuple[str, str]]) -> None:
    parent = place(child, "/dev", directory=True)
    for target, path in links:
        try:
            os.symlink(target, path.rpartition("/")[2], dir_fd=parent)
        except FileExistsError:  # put there by a bundle's rootfs, or by a mount
            continue
    os.close(parent)


def _sysctl(child: Child, name: str, value: str) -> None:
    if child.proc < 0:
        child.proc = kernel_mounts.new_filesystem("proc", "proc", [], _SAFE)
    fd = kernel.openat2(child.proc, f"sys/{name}", os.O_WRONLY, _FIRST_PROC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _mask(child: Child, paths: list[str]) -> None:
    """An attached mount can be cloned, so one null device and one empty directory serve all."""
    null, blank = child.null, -1
    attached = False
    for path in paths:
        where = _if_there(child, path)
        if where < 0:
            continue
        if not stat.S_ISDIR(os.fstat(where).st_mode):
            _cover(where, null, clone=attached)
            attached = True
        elif blank < 0:
            blank = kernel_mounts.new_filesystem("tmpfs", "tmpfs", ["mode=555", "size=4k", "ro"], _BLANK)
            _cover(where, blank, clone=False)
        else:
            _cover(where, blank, clone=True)
        os.close(where)
    if blank >= 0:
        os.close(blank)


def _cover(where: int, tree: int, *, clone: bool) -> None:
    if not clone:
        kernel.move_mount(tree, where)
        return
    copy = kernel.open_tree("", directory=tree)
    kernel.move_mount(copy, where)
    os.close(copy)


def _readonly(child: Child, paths: list[str]) -> None:
    for path in paths:
        where = _if_there(child, path)
        if where < 0:
            continue
        tree = kernel.open_tree("", recursive=True, directory=where)
        kernel.mount_setattr(tree, linux.MOUNT_ATTR_RDONLY, recursive=True)
        kernel.move_mount(tree, where)
        os.close(tree)
        os.close(where)


def _if_there(child: Child, path: str) -> int:
    try:
        return kernel.openat2(child.root, path, linux.O_PATH, LOOKUP)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return -1
        raise


def _remount_readonly(child: Child, target: str) -> None:
    where = kernel.openat2(child.root, target, linux.O_PATH, STRICT)
    kernel.mount_setattr(where, linux.MOUNT_ATTR_RDONLY, recursive=False)
    os.close(where)


def _workdir(child: Child, path: str) -> None:
    os.close(ensure(child.root, path, directory=True))


def _readonly_root(child: Child) -> None:
    kernel.mount_setattr(child.root, linux.MOUNT_ATTR_RDONLY, recursive=False)


def _propagation(child: Child, kind: int) -> None:
    kernel.mount_setattr(child.root, 0, recursive=bool(kind & linux.MS_REC), propagation=kind & ~linux.MS_REC)


STEPS: dict[str, Callable[..., None]] = {
    "null": _null,
    "source": _source,
    "private": _private,
    "rootfs": _rootfs,
    "pivot": _pivot,
    "mount": _mount,
    "attach": _attach,
    "devices": _devices,
    "links": _links,
    "sysctl": _sysctl,
    "mask": _mask,
    "readonly": _readonly,
    "remount_readonly": _remount_readonly,
    "workdir": _workdir,
    "readonly_root": _readonly_root,
    "propagation": _propagation,
}
