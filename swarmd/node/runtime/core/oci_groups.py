"""Where the cgroups of a container are that a foreign program named: ``linux.cgroupsPath`` of its config."""

from __future__ import annotations

import posixpath

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core.cgroups import Cgroups, ContainerGroups, discover


def roots(mountinfo: str, own: str) -> Cgroups:
    """The tops of the hierarchies mounted here, from /proc/self/mountinfo and /proc/self/cgroup.

    Paths of a config are below these, not below the group of whoever runs the command.
    """
    top = "\n".join(f"{line.rpartition(':')[0]}:/" for line in own.splitlines())
    return discover(mountinfo, top)


def path_of(cgroups_path: str, container_id: str) -> str:
    """The path below each hierarchy, beginning with ``/``.

    ``slice:prefix:name`` is the form for a service manager: the same groups are made, without asking it.
    Raises :class:`Invalid` for a path that leads out of the hierarchy.
    """
    if not cgroups_path:
        return f"/{container_id}"
    if cgroups_path.count(":") == 2 and "/" not in cgroups_path:
        above, prefix, name = cgroups_path.split(":")
        scope = name if name.endswith(".slice") else f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
        return "/" + "/".join([*_slices(above), scope])
    path = posixpath.normpath("/" + cgroups_path.lstrip("/"))
    if ".." in cgroups_path.split("/") or path == "/":
        raise Invalid(f"config.json: linux.cgroupsPath {cgroups_path!r} does not name a group of its own")
    return path


def _slices(name: str) -> list[str]:
    """``a-b.slice`` is inside ``a.slice``."""
    if not name or name == "-.slice":
        return []
    parts = name.removesuffix(".slice").split("-")
    return ["-".join(parts[:count]) + ".slice" for count in range(1, len(parts) + 1)]


def place(top: Cgroups, path: str) -> ContainerGroups:
    """The directories in every hierarchy, as crun joins them all; nothing is made yet."""
    return ContainerGroups(
        v2=top.v2 + path if top.v2 else "",
        v1={name: point + path for name, point in top.v1.items()},
    )
