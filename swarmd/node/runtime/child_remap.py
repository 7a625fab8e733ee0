"""The steps of a child on its way into a user namespace, whose root is nobody special on the host.

``core/plan_remap.py`` says why they come in this order.
"""

from __future__ import annotations

import os

from swarmd.node.runtime import child_mounts, kernel, kernel_mounts, wire
from swarmd.node.runtime.child_layers import ROOT, map_ids
from swarmd.node.runtime.child_paths import Child, write_text
from swarmd.node.runtime.core import linux

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable


def _user_namespace(child: Child, uid_map: str, gid_map: str) -> None:
    """A descriptor keeps the namespace when the process it was made with is gone."""
    reading, writing = os.pipe()
    pid, pidfd = kernel.clone(linux.CLONE_NEWUSER)
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    write_text(f"/proc/{pid}/uid_map", uid_map)
    write_text(f"/proc/{pid}/gid_map", gid_map)
    child.user_space = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    os.close(writing)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)


def _streams(child: Child, uid: int, gid: int) -> None:
    """The pipes become the mapped root's, which may hand them on."""
    for stream in (0, 1, 2):
        # a device of the host, or a terminal to come
        with wire.ignoring(OSError):
            if not os.fstat(stream).st_rdev:
                os.fchown(stream, uid, gid)


def _idmap(child: Child, slot: int, recursive: bool) -> None:
    map_ids(child, child.trees[slot], recursive=recursive)


def _own_root(child: Child, root: str) -> None:
    child.trees[ROOT] = kernel.open_tree(root, recursive=True)


def _inner(child: Child, flags: int) -> None:
    """The clone waits until the spawner has been told of it, and is root from here on."""
    kernel.setns(child.user_space, linux.CLONE_NEWUSER)
    # Before the clone: what its namespaces have of themselves, such as the message queues, is then root's.
    os.setgroups(())
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    reading, writing = os.pipe()
    pid, _ = kernel.clone(flags | linux.CLONE_PARENT)
    if pid:
        wire.send(child.channel, wire.encode("moved", pid))
        os._exit(0)
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    kernel.prctl(linux.PR_SET_DUMPABLE, 0)
    os.setsid()
    # a kernel without keyrings, or the quota is used up: then there is none to share
    with wire.ignoring(OSError):
        kernel.new_session_keyring()


def _filesystem(child: Child, slot: int, kind: str, source: str, data: list[str], attributes: int) -> None:
    tree = child.trees[slot] = kernel_mounts.new_filesystem(kind, source, data, attributes)
    if kind == "proc":
        child.proc = os.dup(tree)


def _mapped_root(child: Child) -> None:
    """The overlay covers the root and becomes it: paths to where it was may be closed to us by now."""
    tree = child.trees.pop(ROOT)
    top = os.open("/", linux.O_PATH | os.O_DIRECTORY)
    kernel.move_mount(tree, top)
    os.fchdir(tree)
    os.close(top)
    os.close(tree)
    child_mounts.turn(child)


STEPS: dict[str, Callable[..., None]] = {
    "user_namespace": _user_namespace,
    "streams": _streams,
    "idmap": _idmap,
    "own_root": _own_root,
    "inner": _inner,
    "filesystem": _filesystem,
    "mapped_root": _mapped_root,
}
