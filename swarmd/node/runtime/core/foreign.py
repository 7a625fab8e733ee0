"""Containers that another OCI runtime runs: what it is told, and the plan of the child that tells it.

The bundle is ours, made fit for programs that do not know our extensions; the container's cgroups with their
limits are ours too, so that all that is done through them (pause, update, statistics, kill) works as always.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from swarmd.model.errors import Invalid, Refused
from swarmd.node.runtime.core import oci
from swarmd.node.runtime.core.extensions import extensions
from swarmd.node.runtime.core.facts import Layout

Step = tuple[Any, ...]

LOCAL = "local"
# The Debian package of each is called as it is.
NAMES = ("crun", "runc", "runsc")
_GLOBAL: dict[str, tuple[str, ...]] = {
    # It does not touch cgroups at all then: ours hold.
    "crun": ("--cgroup-manager=disabled",),
    "runc": (),
    # The network stack of Debian 12's version does not start on newer kernels: that of the kernel is used, in
    # the network namespace of the container.
    "runsc": ("--ignore-cgroups", "--network=host", "--platform=ptrace"),
}
_GROUP = "/box"  # where runc, which always wants a group, is given one: below the container's own
_PATH = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


class Directions(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the runtime of one container: ``program`` its file, ``state`` its state directory."""

    name: str
    program: str
    state: str
    log: str
    pid_file: str

    def command(self, *words: str) -> list[str]:
        return [self.program, "--root", self.state, "--log", self.log, *_GLOBAL[self.name], *words]


class Who(msgspec.Struct, frozen=True):
    """The user of a container in numbers, and the home directory."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


class CgroupMount(msgspec.Struct, frozen=True):
    """``names``: the controllers of a v1 mount, none for v2."""

    point: str
    names: tuple[str, ...] = ()


def is_other(name: str) -> bool:
    """Whether it is not ours."""
    return name not in ("", LOCAL)


def check(name: str, *, tty: bool) -> None:
    """Raises :class:`Invalid` for a runtime nobody knows and for what a known one cannot do here."""
    if name not in NAMES:
        raise Invalid(f"runtime {name!r} is not known; use one of {', '.join((LOCAL, *NAMES))}")
    if tty:
        raise Invalid(f"runtime {name}: a terminal is only possible with the runtime {LOCAL}")


def check_inside(name: str, doing: str) -> None:
    """Raises :class:`Refused` where what is in a container cannot be reached: its kernel is not this one."""
    if name == "runsc":
        raise Refused(
            f"containers that runsc runs have a kernel of their own: {doing} is not possible in them"
        )


def fit(spec: oci.Spec, name: str, who: Who, staged: Mapping[str, str]) -> oci.Spec:
    """The bundle as another runtime understands it; ``staged``: target → where its source will be.

    The limits are those of our cgroups.
    """
    process = spec.process
    if process is None:
        raise Invalid("config.json: process is missing")
    env = process.env
    if not any(entry.startswith("HOME=") for entry in env):
        env = (*env, f"HOME={who.home}")
    user = oci.User(uid=who.uid, gid=who.gid, umask=process.user.umask, additional_gids=who.groups)
    own = name == "runc"
    return msgspec.structs.replace(
        spec,
        process=msgspec.structs.replace(process, user=user, env=env),
        mounts=tuple(_mount(mount, staged) for mount in spec.mounts),
        linux=msgspec.structs.replace(
            spec.linux, resources=_devices(spec) if own else None, cgroups_path=_GROUP if own else ""
        ),
    )


def _devices(spec: oci.Spec) -> oci.Resources:
    """runc closes all devices unless it is told which are open."""
    return oci.Resources(devices=spec.linux.resources.devices if spec.linux.resources is not None else ())


def _mount(mount: oci.Mount, staged: Mapping[str, str]) -> oci.Mount:
    """Recursive read-only is newer than most runtimes; what is below a bind stays as it is."""
    options = tuple("ro" if option == "rro" else option for option in mount.options)
    source = staged.get(mount.destination, mount.source)
    return msgspec.structs.replace(mount, options=options, source=source)


def compile_plan(
    spec: oci.Spec,
    layout: Layout,
    directions: Directions,
    staged: Mapping[str, str],
    *,
    container_id: str,
    cgroups: tuple[CgroupMount, ...],
) -> list[Step]:
    """The steps of the child, which is cloned into a mount namespace only.  ``spec`` is not yet fitted."""
    extra = extensions(spec.annotations)
    if extra.overlay is None:
        raise Invalid("config.json: the image layers are missing")
    root, layers = layout.root, extra.overlay
    subpaths = [(target, *extra.subpaths[target]) for target in staged]
    sources = [("source", slot, source, below, True, 0) for slot, (_, source, below) in enumerate(subpaths)]
    stages = [("stage", slot, staged[target]) for slot, (target, _, _) in enumerate(subpaths)]
    volumes = {mount.destination: staged.get(mount.destination, mount.source) for mount in spec.mounts}
    create = directions.command(
        "create", "--bundle", layout.bundle, "--pid-file", directions.pid_file, container_id
    )
    return [
        ("join", list(layout.v1_procs), False),
        ("private",),
        *sources,
        *stages,
        ("overlay", root, list(layers.lower), layers.upper, layers.work),
        *(("fill", root, target, volumes[target]) for target in extra.copy_up),
        *_cgroup_steps(directions.name, cgroups),
        ("runtime_create", create, _PATH, directions.log, directions.pid_file),
        ("ready",),
        ("runtime_start", directions.command("start", container_id), _PATH, directions.log),
        ("watch",),
    ]


def _cgroup_steps(name: str, cgroups: tuple[CgroupMount, ...]) -> list[Step]:
    """crun refuses a machine with controllers in v1 and a v2 tree beside them, unless that is hidden."""
    if name == "runc":
        mounts = [(each.point, "cgroup" if each.names else "cgroup2", list(each.names)) for each in cgroups]
        return [("own_groups", mounts)]
    hybrid = any(each.names for each in cgroups)
    if name != "crun" or not hybrid:
        return []
    return [("hide", each.point) for each in cgroups if not each.names]


def mounted(mountinfo: str) -> tuple[CgroupMount, ...]:
    """The cgroup file systems of this machine, from /proc/self/mountinfo."""
    found: dict[str, CgroupMount] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = [*right.split(" "), "", "", ""][:3]
        point = left.split(" ")[4]
        if kind == "cgroup2":
            found[point] = CgroupMount(point)
        elif kind == "cgroup":
            names = tuple(name for name in options.split(",") if name not in _PLAIN)
            found[point] = CgroupMount(point, names)
    return tuple(found.values())


_PLAIN = frozenset({"rw", "ro", "noprefix", "xattr", "clone_children", "cpuset_v2_mode"})
