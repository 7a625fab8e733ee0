"""The steps that put image layers together: for the root, and for images shown inside of it."""

from __future__ import annotations

import errno
import os

from swarmd.node.runtime import kernel
from swarmd.node.runtime.child_paths import LOOKUP, Child
from swarmd.node.runtime.core import linux

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = -1  # the slot of the root's overlay where that is moved


def _overlay(child: Child, root: str, lowers: list[str], upper: str, work: str) -> None:
    _mount(root, lowers, [upper, work], 0, "upperdir={},workdir={}")
    if os.statvfs(root).f_flag & os.ST_RDONLY:
        # So the kernel does where it cannot make its directory in there, and says so in its log alone.
        os.mkdir(f"{work}/room")
        os.rmdir(f"{work}/room")


def _mapped_overlay(child: Child, root: str, lowers: list[str], upper: str, work: str) -> None:
    """The upper directory belongs to the mapped root: were it mapped too, all would become read-only."""
    _map_layers(child, lowers)
    _overlay(child, root, lowers, upper, work)
    child.trees[ROOT] = kernel.open_tree(root)


def _layers(child: Child, slot: int, place: str, lowers: list[str], options: str, subpath: str) -> None:
    """An image as the source of a mount.  It is put together at ``place``, where the root will be, because a
    part of it can only be taken from a tree that is attached."""
    if child.user_space >= 0:
        _map_layers(child, lowers)
    _mount(place, lowers, [], linux.MS_RDONLY, options.replace("{", "{{").replace("}", "}}"))
    try:
        whole = os.open(place, linux.O_PATH | os.O_DIRECTORY)
        part = kernel.openat2(whole, subpath or ".", linux.O_PATH, LOOKUP)
        child.trees[slot] = kernel.open_tree("", directory=part)
        os.close(part)
        os.close(whole)
    finally:
        kernel.umount(place, linux.MNT_DETACH)


def _mount(place: str, lowers: list[str], others: list[str], flags: int, options: str) -> None:
    """By descriptor: the options must fit into one page, and ':' or ',' in a path would need escapes."""
    fds = [os.open(path, linux.O_PATH | os.O_DIRECTORY) for path in (*lowers, *others)]
    names = [f"/proc/self/fd/{fd}" for fd in fds]
    more = options.format(*names[len(lowers) :])
    data = f"lowerdir={':'.join(names[: len(lowers)])}" + (f",{more}" if more else "")
    try:
        kernel.mount("overlay", place, "overlay", flags, data)
    finally:
        for fd in fds:
            os.close(fd)


def _map_layers(child: Child, lowers: list[str]) -> None:
    """Each layer is covered by itself with mapped ids."""
    for path in lowers:
        tree = kernel.open_tree(path)
        map_ids(child, tree, recursive=False)
        place = os.open(path, linux.O_PATH | os.O_DIRECTORY)
        kernel.move_mount(tree, place)
        os.close(place)
        os.close(tree)


def map_ids(child: Child, tree: int, *, recursive: bool) -> None:
    """As the user namespace of the child has them."""
    try:
        kernel.mount_setattr(tree, linux.MOUNT_ATTR_IDMAP, recursive=recursive, userns=child.user_space)
    except OSError as error:
        if error.errno == errno.EPERM:  # it is mapped already: the layer of another image, too
            return
        if error.errno != errno.EINVAL:
            raise
        raise OSError(errno.EINVAL, "its file system cannot map user ids; use userns=host") from None


STEPS: dict[str, Callable[..., None]] = {
    "overlay": _overlay,
    "mapped_overlay": _mapped_overlay,
    "layers": _layers,
}
