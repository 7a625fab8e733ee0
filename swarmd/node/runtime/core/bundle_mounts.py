"""The mounts of a container in the order they are made: the kernel's own, then what was asked for."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

import msgspec

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import oci
from swarmd.node.runtime.core.facts import HostFacts, Layout
from swarmd.node.runtime.port import ContainerConfig, Mount

_SAFE = ("nosuid", "noexec", "nodev")
_RECURSIVE_ONLY = {"enabled": ("rbind", "rro"), "writable": ("rbind", "ro"), "readonly": ("rbind", "rro")}


class Mounts(msgspec.Struct, frozen=True):
    """``subpaths``: target → (source, path below it); ``copy_up``: targets; ``propagation``: of the root."""

    mounts: tuple[oci.Mount, ...]
    subpaths: Mapping[str, tuple[str, str]]
    copy_up: tuple[str, ...]
    propagation: str


def mounts(
    config: ContainerConfig, facts: HostFacts, layout: Layout, peers: Mapping[str, int], *, remapped: bool
) -> Mounts:
    """Raises :class:`Invalid` for a target that is used twice."""
    asked = _asked(config, layout)
    if config.init:
        asked["/sbin/docker-init"] = Mount(target="/sbin/docker-init", source=facts.init_path, readonly=True)
    ordered = sorted(asked, key=lambda path: path.count("/"))
    kernel = [mount for mount in _kernel(config, peers) if mount.destination not in asked]
    chosen = [(target, asked[target]) for target in ordered]
    subpaths = {target: (mount.source, mount.subpath) for target, mount in chosen if mount.subpath}
    return Mounts(
        mounts=(*kernel, *(_entry(target, mount, remapped=remapped) for target, mount in chosen)),
        subpaths=subpaths,
        copy_up=tuple(target for target, mount in chosen if mount.copy_up),
        propagation=_root_propagation(config.mounts),
    )


def _asked(config: ContainerConfig, layout: Layout) -> dict[str, Mount]:
    wanted = {mount.target: mount for mount in _generated(config, layout)}
    seen: set[str] = set()
    for mount in config.mounts:
        target = posixpath.normpath(mount.target)
        if target in seen:
            raise Invalid(f"duplicate mount target {target}: each target can be used once")
        seen.add(target)
        wanted[target] = mount
    return wanted


def _generated(config: ContainerConfig, layout: Layout) -> list[Mount]:
    return [Mount(target=f"/etc/{name}", source=f"{layout.files}/{name}") for name in generated_files(config)]


def generated_files(config: ContainerConfig) -> dict[str, str]:
    """File name → content, of those that are given."""
    files = config.files
    named = {"hosts": files.hosts, "hostname": files.hostname, "resolv.conf": files.resolv_conf}
    return {name: content for name, content in named.items() if content}


def _kernel(config: ContainerConfig, peers: Mapping[str, int]) -> list[oci.Mount]:
    sys_access = "rw" if config.privileged else "ro"
    pts = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
    out = [
        oci.Mount(destination="/proc", type="proc", source="proc", options=_SAFE),
        oci.Mount(
            destination="/dev",
            type="tmpfs",
            source="tmpfs",
            options=("nosuid", "strictatime", "mode=755", "size=65536k"),
        ),
        oci.Mount(destination="/dev/pts", type="devpts", source="devpts", options=pts),
        oci.Mount(destination="/sys", type="sysfs", source="sysfs", options=(*_SAFE, sys_access)),
        oci.Mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup", options=(*_SAFE, sys_access)),
    ]
    return out + _ipc(config, peers)


def _ipc(config: ContainerConfig, peers: Mapping[str, int]) -> list[oci.Mount]:
    """Message queues are those of the ipc namespace, whoever mounts them; /dev/shm is shared by its mount."""
    queues = oci.Mount(destination="/dev/mqueue", type="mqueue", source="mqueue", options=_SAFE)
    if config.ipc_mode in ("", "private", "shareable"):
        options = (*_SAFE, "mode=1777", f"size={config.shm_size}")
        return [queues, oci.Mount(destination="/dev/shm", type="tmpfs", source="shm", options=options)]
    root = "" if config.ipc_mode == "host" else f"/proc/{peers.get(config.ipc_mode[10:], 0)}/root"
    options = ("bind", *_SAFE, "rprivate")
    return [queues, oci.Mount(destination="/dev/shm", type="bind", source=f"{root}/dev/shm", options=options)]


def _entry(target: str, mount: Mount, *, remapped: bool) -> oci.Mount:
    """Files of volumes and images keep the numbers of the container, whoever that is on the host."""
    extra = mount.options
    if mount.kind == "tmpfs":
        size = (f"size={mount.size}",) if mount.size else ()
        access = ("ro",) if mount.readonly else ()
        options = (*_SAFE, f"mode={mount.mode:o}", *size, *access, *extra)
        return oci.Mount(destination=target, type="tmpfs", source="tmpfs", options=options)
    if mount.kind == "image" and mount.layers:
        lowers = ":".join(_escaped(path) for path in (mount.source, *mount.layers))
        options = ("ro", f"lowerdir={lowers}", mount.propagation, *extra)
        return oci.Mount(destination=target, type="overlay", source="overlay", options=options)
    source = f"{mount.source.rstrip('/')}/{mount.subpath}" if mount.subpath else mount.source
    mapped = ("idmap",) if remapped and mount.kind in ("volume", "image") else ()
    options = (*_bind_options(mount), mount.propagation, *mapped, *extra)
    return oci.Mount(destination=target, type="bind", source=source, options=options)


def _bind_options(mount: Mount) -> tuple[str, ...]:
    readonly = mount.readonly or mount.kind == "image"
    if mount.recursive == "disabled":
        return ("bind", "ro") if readonly else ("bind",)
    return _RECURSIVE_ONLY[mount.recursive] if readonly else ("rbind",)


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _root_propagation(wanted: tuple[Mount, ...]) -> str:
    """A mount can hand on what happens below it only if the root it is under does."""
    kinds = {mount.propagation.removeprefix("r") for mount in wanted if mount.kind != "tmpfs"}
    if "shared" in kinds:
        return "shared"
    return "rslave" if "slave" in kinds else ""
