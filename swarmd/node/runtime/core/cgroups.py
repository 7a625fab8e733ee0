"""Where the cgroups of this machine are, and which of them a container gets.

Three layouts exist: v1 (a tree per controller), pure v2 (one tree), and hybrid (v1 controllers and a v2
tree beside them).  In hybrid the limits are in v1; identity and killing are in the v2 tree.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from swarmd.model.errors import Invalid

PARENT = "swarmd"
LEAF = "swarmd-daemon"
# Every container has groups of these; of the others it gets one if its limits ask for it.
_ALWAYS = ("memory", "cpu", "pids", "blkio")
_ON_REQUEST = ("cpuset", "hugetlb", "net_cls", "net_prio", "rdma")
# In a v2 tree, also in one without controllers, nothing else counts CPU time, filters devices or freezes.
_WITHOUT_V2 = ("cpuacct", "devices", "freezer")


class Cgroups(msgspec.Struct, frozen=True):
    """``v1``: controller → the directory this daemon is in; ``v2``: the same in the v2 tree, or "".

    ``v1_mounts``: controllers as they are mounted (``cpu,cpuacct``) for showing them to containers.
    """

    v1: Mapping[str, str]
    v2: str
    v1_mounts: tuple[str, ...] = ()

    @property
    def pure_v2(self) -> bool:
        return not self.v1

    def parents(self) -> tuple[str, ...]:
        """The directories below which a container may get one of its own; the v2 tree first."""
        wanted = [self.v2] if self.v2 else []
        wanted += self.v1_of((*_ALWAYS, *_ON_REQUEST)).values()
        return tuple(dict.fromkeys(wanted))

    def v1_of(self, names: tuple[str, ...]) -> dict[str, str]:
        wanted = names if self.v2 else (*names, *_WITHOUT_V2)
        return {name: self.v1[name] for name in wanted if name in self.v1}


class ContainerGroups(msgspec.Struct, frozen=True):
    """The directories of one container: ``v2`` (or ""), and ``v1`` by controller."""

    v2: str
    v1: Mapping[str, str]

    def paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*([self.v2] if self.v2 else []), *self.v1.values()]))


class Write(msgspec.Struct, frozen=True):
    """One limit; ``key`` says which line of a file that has several."""

    path: str
    value: str
    key: str = ""


def discover(mountinfo: str, own: str) -> Cgroups:
    """The layout, from the texts of /proc/self/mountinfo and /proc/self/cgroup.

    Raises :class:`Invalid` if no cgroup file system is mounted.
    """
    membership = _membership(own)
    v1: dict[str, str] = {}
    v2 = ""
    mounts: dict[str, None] = {}
    for kind, root, point, options in _visible(mountinfo):
        if kind == "cgroup2":
            v2 = v2 or _directory(point, root, membership.get("", "/"))
            continue
        names = [name for name in options.split(",") if name in membership]
        for name in names:
            v1.setdefault(name, _directory(point, root, membership[name]))
        if names and not names[0].startswith("name="):
            mounts[",".join(names)] = None
    controllers = {name: path for name, path in v1.items() if not name.startswith("name=")}
    if not controllers and not v2:
        raise Invalid("no cgroup file system is mounted; mount cgroup2 at /sys/fs/cgroup to run containers")
    return Cgroups(controllers, v2, tuple(mounts))


def _visible(mountinfo: str) -> list[tuple[str, str, str, str]]:
    """(kind, root, point, options) of the cgroup mounts that paths lead to: the last one at each point.

    Mounts that begin inside our cgroup namespace come first: the others show groups that are not ours.
    """
    last: dict[str, tuple[str, str, str, str]] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = [*right.split(" "), "", "", ""][:3]
        root, point = left.split(" ")[3:5]
        if kind in ("cgroup", "cgroup2"):
            last[point] = (kind, root, _unescape(point), options)
    return sorted(last.values(), key=lambda mount: mount[1].startswith("/.."))


def _membership(own: str) -> dict[str, str]:
    out = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            out[name] = path
    return out


def _directory(point: str, root: str, path: str) -> str:
    if path.startswith("/.."):  # outside of our cgroup namespace: all we see is the mount
        return point
    inside = path
    if root != "/" and (path == root or path.startswith(root + "/")):
        inside = path[len(root) :]
    parts = [part for part in inside.split("/") if part]
    if parts and parts[-1] == LEAF:  # a daemon that was here before us moved into a leaf
        parts.pop()
    return "/".join([point, *parts])


def _unescape(path: str) -> str:
    return path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def place(cgroups: Cgroups, container_id: str, controllers: Collection[str] = _ON_REQUEST) -> ContainerGroups:
    """The directories of a container whose limits need ``controllers``; nothing is made yet.

    By default all it can have: what is to be cleared away.
    """
    names = (*_ALWAYS, *(name for name in _ON_REQUEST if name in controllers))
    return ContainerGroups(
        v2=f"{cgroups.v2}/{PARENT}/{container_id}" if cgroups.v2 else "",
        v1={name: f"{path}/{PARENT}/{container_id}" for name, path in cgroups.v1_of(names).items()},
    )


def oom_kills(text: str) -> int:
    """The counter in ``memory.events`` (v2) or ``memory.oom_control`` (v1)."""
    return counter(text, "oom_kill")


def counter(text: str, name: str) -> int:
    """One number of a "name value" file; 0 if it is not there."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdecimal():
            return int(value)
    return 0
