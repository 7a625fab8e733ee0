"""Which cgroup hierarchies this machine has, and where a node's directories lie in them.

Pure: reads the text of ``/proc/self/mountinfo`` and ``/proc/self/cgroup``.  Covers pure v1, the hybrid shape
(v1 controllers beside a v2 tree) and pure v2.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

import msgspec

TREE = "/sys/fs/cgroup"
PARENT = "swarmd-local"
LEAF = "init.scope"
_FLAGS = frozenset({"rw", "ro", "xattr", "clone_children", "noprefix", "cpuset_v2_mode", "nsdelegate"})


class Hierarchy(msgspec.Struct, frozen=True):
    """One cgroup hierarchy.

    ``mountpoint`` is where it is mounted here, ``kind`` the file system (``cgroup`` or ``cgroup2``),
    ``options`` what names it when it is mounted again, ``own`` this process's directory in it (absolute).
    """

    mountpoint: str
    kind: str
    options: str
    own: str


def unescape(text: str) -> str:
    """A path as it is, from the form in which mountinfo writes it (``\\040`` for a blank)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _memberships(cgroup: str) -> dict[str, str]:
    """Controllers (``""`` for v2) → path of this process, from ``/proc/self/cgroup``."""
    found = {}
    for line in cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            found[name] = path
    return found


def parse(mountinfo: str, cgroup: str) -> tuple[Hierarchy, ...]:
    """The hierarchies mounted below ``/sys/fs/cgroup``, in the order in which they are mounted."""
    members = _memberships(cgroup)
    found: dict[str, Hierarchy] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        root, mountpoint = (unescape(field) for field in left.split()[3:5])
        kind, _, options = right.split(" ", 2)
        if kind not in ("cgroup", "cgroup2") or not f"{mountpoint}/".startswith(f"{TREE}/"):
            continue
        names = [
            name
            for name in options.split(",")
            if name not in _FLAGS and not name.startswith("release_agent=")
        ]
        member = members.get("" if kind == "cgroup2" else names[0] if names else "", "/")
        below = "." if root.startswith("/..") else posixpath.relpath(member, root)
        own = mountpoint if below.startswith("..") else posixpath.normpath(posixpath.join(mountpoint, below))
        found[mountpoint] = Hierarchy(
            mountpoint=mountpoint, kind=kind, options="" if kind == "cgroup2" else ",".join(names), own=own
        )
    return tuple(found.values())


def is_pure_v2(hierarchies: Iterable[Hierarchy]) -> bool:
    """Whether every controller lives in one v2 tree."""
    return all(hierarchy.kind == "cgroup2" for hierarchy in hierarchies)


def node_directories(bases: Iterable[str], cluster: str, node: str) -> tuple[str, ...]:
    """The node's directory below each of ``bases``."""
    return tuple(f"{base}/{PARENT}/{cluster}/{node}" for base in bases)


def mount_plan(hierarchies: Iterable[Hierarchy]) -> list[tuple[str, str, str]]:
    """What a node mounts to see its own tree in this machine's shape: (mountpoint, kind, options)."""
    plan = []
    for hierarchy in hierarchies:
        named = hierarchy.options.startswith("name=")
        plan.append(
            (
                hierarchy.mountpoint,
                hierarchy.kind,
                f"none,{hierarchy.options}" if named else hierarchy.options,
            )
        )
    return plan
