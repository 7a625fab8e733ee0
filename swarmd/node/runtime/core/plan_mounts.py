"""The mounts and devices of a plan: taking the sources from the host's tree, then putting things in place."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import defaults, oci
from swarmd.node.runtime.core.extensions import Extensions
from swarmd.node.runtime.core.facts import HostFacts, Layout
from swarmd.node.runtime.core.linux import MOUNT_ATTR_RDONLY
from swarmd.node.runtime.core.mountopts import Options, parse

Step = tuple[Any, ...]

_COLON = re.compile(r"(?<!\\):")
_PEER_ROOT = re.compile(r"/proc/(\d+)/root(/.*)")
_KERNEL_TREES = ("/proc", "/sys")
# Files of /proc that may be replaced by others that say the same of the container (lxcfs does).
_REPLACEABLE = frozenset({
    "/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/net/dev", "/proc/slabinfo",
    "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
})  # fmt: skip
# Their super block is shared with others: only the mount can be read-only.
_SHARED = frozenset({"proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts"})
_KERNEL_TYPES = _SHARED | {"tmpfs", "securityfs", "debugfs", "tracefs", "bpf", "binfmt_misc", "efivarfs"}
_NODE_MODE = 0o666
_GROUP_SLOTS = 1000  # numbers of mounts that one mount of the spec becomes


def mounts(
    spec: oci.Spec, facts: HostFacts, layout: Layout, extra: Extensions
) -> tuple[list[Step], list[Step]]:
    """The steps before the root turns, and those after it, in the order of the spec.

    Raises :class:`Invalid` for a mount that would replace what the kernel says in /proc or /sys.
    """
    sources: list[Step] = [("null",)] if spec.linux.masked_paths else []
    attachments: list[Step] = []
    for slot, mount in enumerate(spec.mounts):
        target = _normal(mount.destination)
        options = parse(mount.options)
        if options.bind or mount.type == "bind":
            _check_bind(target)
            sources.append(_source(slot, target, mount, options, layout, extra))
            attachments.append(("attach", slot, target, *_attributes(options), target in extra.copy_up))
        elif mount.type == "cgroup" and layout.groups and not _has_own_cgroups(spec):
            taken, placed = _own_groups(target, options, layout, first=_GROUP_SLOTS * (slot + 1))
            sources += taken
            attachments += placed
        elif mount.type == "overlay":
            attachments.append(("attach", slot, target, *_attributes(options), False))
        elif mount.type == "cgroup":
            attachments += _cgroups(target, mount, options, facts)
        else:
            attachments += _filesystem(target, mount, options)
    return sources, attachments


def layers(spec: oci.Spec, root: str, extra: Extensions) -> list[Step]:
    """Images to be shown, put together at ``root`` before the container's own is there."""
    steps: list[Step] = []
    for slot, mount in enumerate(spec.mounts):
        if mount.type != "overlay":
            continue
        data = dict(option.partition("=")[::2] for option in parse(mount.options).data)
        lowers = [_unescaped(path) for path in _COLON.split(data.pop("lowerdir", ""))]
        more = ",".join(f"{name}={value}" if value else name for name, value in data.items())
        _, subpath = extra.subpaths.get(_normal(mount.destination), ("", ""))
        steps.append(("layers", slot, root, lowers, more, subpath))
    return steps


def _normal(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))


def _unescaped(path: str) -> str:
    return re.sub(r"\\(.)", r"\1", path)


def _check_bind(target: str) -> None:
    if target == "/proc" or (target.startswith("/proc/") and target not in _REPLACEABLE):
        raise Invalid(
            f"mount destination {target}: nothing may be bound on /proc but files such as /proc/cpuinfo"
        )


def _source(
    slot: int, target: str, mount: oci.Mount, options: Options, layout: Layout, extra: Extensions
) -> Step:
    """``("source", slot, path, path below it, recursive, pid of the container whose tree it is in or 0)``."""
    source, subpath = extra.subpaths.get(target, (mount.source, ""))
    peer = _PEER_ROOT.fullmatch(source)
    if peer is not None:
        return ("source", slot, peer[2], subpath, options.recursive, int(peer[1]))
    return ("source", slot, posixpath.join(layout.bundle or "/", source), subpath, options.recursive, 0)


def _attributes(options: Options) -> tuple[int, int, int, int, list[int]]:
    return (
        options.set, options.clear, options.below_set, options.below_clear, list(options.propagation),
    )  # fmt: skip


def _filesystem(target: str, mount: oci.Mount, options: Options) -> list[Step]:
    inside = any(target.startswith(tree + "/") for tree in _KERNEL_TREES)
    if inside and mount.type not in _KERNEL_TYPES:
        raise Invalid(f"mount destination {target}: a {mount.type} may not be mounted below /proc or /sys")
    readonly = bool(options.set & MOUNT_ATTR_RDONLY) and mount.type not in _SHARED
    data = [*options.data, *(["ro"] if readonly else [])]
    copy_up = options.copy_up and mount.type == "tmpfs"
    # A read-only tmpfs that is filled first cannot be read-only from its start.
    data = [item for item in data if item != "ro"] if copy_up else data
    source = mount.source or mount.type
    return [("mount", target, mount.type, source, data, *_attributes(options), copy_up)]


def _cgroups(target: str, mount: oci.Mount, options: Options, facts: HostFacts) -> list[Step]:
    """A mount of type ``cgroup`` stands for what this machine has."""
    attributes = _attributes(options)
    if facts.cgroup_mounts == ("v2",):
        return [("mount", target, "cgroup2", "cgroup", [], *attributes, False)]
    if not facts.cgroup_mounts:
        return []
    set_, clear, *below = attributes
    writable = (set_ & ~MOUNT_ATTR_RDONLY, clear, *below)
    steps: list[Step] = [("mount", target, "tmpfs", "cgroup", ["mode=755", "size=64k"], *writable, False)]
    steps += [
        ("mount", f"{target}/{names}", "cgroup", "cgroup", names.split(","), *attributes, False)
        for names in facts.cgroup_mounts
    ]
    if set_ & MOUNT_ATTR_RDONLY:
        steps.append(("remount_readonly", target))
    return steps


def _has_own_cgroups(spec: oci.Spec) -> bool:
    space = spec.namespace("cgroup")
    return space is not None and not space.path


def _own_groups(
    target: str, options: Options, layout: Layout, *, first: int
) -> tuple[list[Step], list[Step]]:
    """Without a cgroup namespace a mount would show the groups of all others: its own are bound instead."""
    attributes = _attributes(options)
    set_, clear, *below = attributes
    own = {target if name == "v2" else f"{target}/{name}": path for name, path in layout.groups.items()}
    sources: list[Step] = [
        ("source", slot, path, "", False, 0) for slot, path in enumerate(own.values(), first)
    ]
    attachments: list[Step] = [
        ("attach", slot, place, *attributes, False) for slot, place in enumerate(own, first)
    ]
    if target not in own:
        writable = (set_ & ~MOUNT_ATTR_RDONLY, clear, *below)
        attachments.insert(
            0, ("mount", target, "tmpfs", "cgroup", ["mode=755", "size=64k"], *writable, False)
        )
        if set_ & MOUNT_ATTR_RDONLY:
            attachments.append(("remount_readonly", target))
    return sources, attachments


def devices(spec: oci.Spec) -> list[Step]:
    """Device nodes and links of /dev; none if a tree of somebody else's is bound there."""
    for mount in spec.mounts:
        if _normal(mount.destination) == "/dev" and (
            mount.type == "bind" or {"bind", "rbind"} & set(mount.options)
        ):
            return []
    nodes: dict[str, tuple[str, int, int, int, int, int]] = {
        f"/dev/{name}": ("c", major, minor, _NODE_MODE, 0, 0) for name, major, minor in defaults.NODES
    }
    for device in spec.linux.devices:
        mode = _NODE_MODE if device.file_mode is None else device.file_mode & 0o7777
        kind = "c" if device.type == "u" else device.type
        nodes[posixpath.normpath(device.path)] = (
            kind, device.major, device.minor, mode, device.uid or 0, device.gid or 0,
        )  # fmt: skip
    return [
        ("devices", [(path, *values) for path, values in nodes.items()]),
        ("links", [(target, path) for target, path in defaults.LINKS]),
    ]
