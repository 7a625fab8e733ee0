"""Compiles a config and what is known of this machine into a flat list of steps for the cloned child.

Each step is a tuple of plain values whose first item names a function of ``child.py``; the child obeys them
in order and decides nothing.  Everything a user may get wrong is refused here, before anything is made.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import defaults
from swarmd.node.runtime.core.linux import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_STRICTATIME, RLIMITS
from swarmd.node.runtime.port import ContainerConfig, Mount

Step = tuple[Any, ...]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_KERNEL_TREES = ("/proc", "/sys")
_UNLIMITED = -1
_SAFE = MS_NOSUID | MS_NOEXEC | MS_NODEV
_MAX_LAYERS = 128  # all of them must fit into one page of mount options


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan depends on and only this machine knows.

    ``masked`` and ``readonly`` are the paths that exist here; ``hard_limits`` the highest rlimits that can
    be given; ``cgroup_mounts`` what to show at /sys/fs/cgroup: ``("v2",)`` or v1 controllers;
    ``init_path`` a static init for ``init=True`` or "".
    """

    masked_files: tuple[str, ...] = ()
    masked_dirs: tuple[str, ...] = ()
    readonly: tuple[str, ...] = ()
    hard_limits: Mapping[str, int] = {}
    cgroup_mounts: tuple[str, ...] = ()
    init_path: str = ""
    grantable: int = -1


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Where this container's own directories are, on the host."""

    root: str
    upper: str
    work: str
    files: str
    v1_procs: tuple[str, ...] = ()


def validate(config: ContainerConfig) -> None:
    """Raises :class:`Invalid` naming the field, for what can be seen without looking at the machine."""
    if not _ID.fullmatch(config.id):
        raise Invalid(f"container id {config.id!r}: use letters, digits, '_', '.' and '-' only")
    if not config.args or not config.args[0]:
        raise Invalid("no command specified: the image has no entrypoint or cmd, so args must not be empty")
    if not 1 <= len(config.lower_dirs) <= _MAX_LAYERS:
        raise Invalid(f"lower_dirs: {len(config.lower_dirs)} layers; there must be 1 to {_MAX_LAYERS}")
    if not config.cwd.startswith("/"):
        raise Invalid(f"working directory {config.cwd!r} must be an absolute path")
    if len(config.hostname.encode()) > 64:
        raise Invalid(f"hostname {config.hostname!r} is longer than 64 bytes")
    check_texts((*config.args, config.cwd, config.user), config.env)
    for name in config.sysctls:
        defaults.check_sysctl(name, host_network=config.network_mode == "host")
    for mount in config.mounts:
        _check_mount(mount)


def check_texts(texts: tuple[str, ...], env: tuple[str, ...]) -> None:
    """Raises :class:`Invalid` for what no program can be given."""
    for text in (*texts, *env):
        if "\0" in text:
            raise Invalid(f"{text!r} contains a zero byte, which no program can be given")
    for entry in env:
        if "=" not in entry or entry.startswith("="):
            raise Invalid(f"env {entry!r}: write NAME=value")


def _check_mount(mount: Mount) -> None:
    target = posixpath.normpath("/" + mount.target.lstrip("/"))
    if not mount.target.startswith("/") or target == "/":
        raise Invalid(f"mount target {mount.target!r} must be an absolute path other than '/'")
    if any(target == tree or target.startswith(tree + "/") for tree in _KERNEL_TREES):
        raise Invalid(f"mount target {mount.target!r}: nothing may be mounted on /proc or /sys")
    if mount.kind != "tmpfs" and not mount.source.startswith("/"):
        raise Invalid(f"mount source {mount.source!r} for {mount.target} must be an absolute path")


def compile_plan(
    config: ContainerConfig, facts: HostFacts, layout: Layout, seccomp: bytes | None
) -> list[Step]:
    """The steps, those before ``("ready",)`` done at create and the rest at start.

    ``config`` has been validated.  ``seccomp`` is a compiled filter; None runs without one.
    """
    sources, attachments = _mounts(config, layout)
    steps: list[Step] = [("join", list(layout.v1_procs)), ("private",)]
    steps += rlimits(config, facts)
    steps += _init_source(config, facts, attachments)
    steps += sources
    steps += [
        ("overlay", layout.root, list(config.lower_dirs), layout.upper, layout.work),
        ("pivot", layout.root),
        *_kernel_mounts(facts),
        *_sysctls(config),
        *(("mask_file", path) for path in facts.masked_files),
        *(("mask_dir", path) for path in facts.masked_dirs),
        *(("readonly", path) for path in facts.readonly),
        *attachments,
        ("workdir", config.cwd),
        *([("readonly_root",)] if config.read_only else []),
        *([] if config.network_mode == "host" else [("loopback",)]),
        *([("hostname", config.hostname)] if config.hostname else []),
        ("user", config.user),
        ("ready",),
    ]
    return steps + _start(config, facts, seccomp)


def _start(config: ContainerConfig, facts: HostFacts, seccomp: bytes | None) -> list[Step]:
    mask = defaults.capability_mask(config.cap_add, config.cap_drop, grantable=facts.grantable)
    args = list(config.args)
    if config.init:
        args = ["/sbin/docker-init", "--", *args]
    return [
        ("bounding", mask),
        *([("no_new_privs",)] if config.no_new_privileges else []),
        *([("seccomp", seccomp)] if seccomp is not None else []),
        ("identity", mask),
        ("chdir", config.cwd),
        ("exec", args, environment(config)),
    ]


def environment(config: ContainerConfig) -> dict[str, str]:
    """PATH and HOSTNAME unless given; of several entries with one name the last counts."""
    env = {"PATH": defaults.PATH}
    if config.hostname:
        env["HOSTNAME"] = config.hostname
    for entry in config.env:
        name, _, value = entry.partition("=")
        env[name] = value
    return env


def rlimits(config: ContainerConfig, facts: HostFacts) -> list[Step]:
    """Clamped to what this machine can give; :class:`Invalid` for what does not exist."""
    steps: list[Step] = []
    for limit in config.ulimits:
        if limit.name not in RLIMITS:
            raise Invalid(f"ulimit {limit.name!r} does not exist; use one of {', '.join(RLIMITS)}")
        if limit.hard != _UNLIMITED and (limit.soft > limit.hard or limit.soft == _UNLIMITED):
            raise Invalid(f"ulimit {limit.name}: soft limit {limit.soft} is above hard limit {limit.hard}")
        top = facts.hard_limits.get(limit.name, _UNLIMITED)
        steps.append(("rlimit", RLIMITS[limit.name], _clamp(limit.soft, top), _clamp(limit.hard, top)))
    return steps


def _clamp(value: int, top: int) -> int:
    if top == _UNLIMITED:
        return value
    return top if value == _UNLIMITED else min(value, top)


def _kernel_mounts(facts: HostFacts) -> list[Step]:
    shm = f"mode=1777,size={defaults.SHM_SIZE}"
    pts = "newinstance,ptmxmode=0666,mode=0620,gid=5"
    steps: list[Step] = [
        ("mount", "proc", "/proc", "proc", defaults.PROC_FLAGS, None),
        ("mount", "sysfs", "/sys", "sysfs", defaults.SYS_FLAGS, None),
        ("mount", "tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"),
        *(("node", f"/dev/{name}", major, minor) for name, major, minor in defaults.NODES),
        *(("link", target, path) for target, path in defaults.LINKS),
        ("mount", "devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, pts),
        ("mount", "mqueue", "/dev/mqueue", "mqueue", _SAFE, None),
        ("mount", "shm", "/dev/shm", "tmpfs", _SAFE, shm),
    ]
    if facts.cgroup_mounts == ("v2",):
        steps.append(("mount", "cgroup", "/sys/fs/cgroup", "cgroup2", defaults.SYS_FLAGS, None))
    elif facts.cgroup_mounts:
        steps.append(("mount", "cgroup", "/sys/fs/cgroup", "tmpfs", _SAFE, "mode=755,size=64k"))
        for names in facts.cgroup_mounts:
            target = f"/sys/fs/cgroup/{names}"
            steps.append(("mount", "cgroup", target, "cgroup", defaults.SYS_FLAGS, names))
        steps.append(("remount_readonly", "/sys/fs/cgroup", _SAFE))
    return steps


def _sysctls(config: ContainerConfig) -> list[Step]:
    wanted = (
        dict(config.sysctls) if config.network_mode == "host" else {**defaults.NET_SYSCTLS, **config.sysctls}
    )
    return [("sysctl", name.replace(".", "/"), value) for name, value in wanted.items()]


def _mounts(config: ContainerConfig, layout: Layout) -> tuple[list[Step], list[Step]]:
    """Taking the sources (while the host's tree is in sight) and putting them in place, parents first."""
    sources: list[Step] = []
    attachments: list[Step] = []
    wanted = {posixpath.normpath(mount.target): mount for mount in _generated(config, layout)}
    for mount in config.mounts:
        target = posixpath.normpath(mount.target)
        if any(posixpath.normpath(other.target) == target for other in config.mounts if other is not mount):
            raise Invalid(f"duplicate mount target {target}: each target can be used once")
        wanted[target] = mount
    for target in sorted(wanted, key=lambda path: path.count("/")):
        mount = wanted[target]
        if mount.kind == "tmpfs":
            options = f"mode={mount.mode:o}" + (f",size={mount.size}" if mount.size else "")
            attachments.append(("tmpfs", target, options, mount.readonly))
        else:
            sources.append(("source", target, mount.source, mount.readonly))
            attachments.append(("attach", target))
    return sources, attachments


def _generated(config: ContainerConfig, layout: Layout) -> list[Mount]:
    files = config.files
    return [
        Mount(target=f"/etc/{name}", source=f"{layout.files}/{name}")
        for name, content in generated_files(files.hosts, files.hostname, files.resolv_conf).items()
        if content
    ]


def generated_files(hosts: str, hostname: str, resolv_conf: str) -> dict[str, str]:
    """File name → content, of those that are given."""
    named = {"hosts": hosts, "hostname": hostname, "resolv.conf": resolv_conf}
    return {name: content for name, content in named.items() if content}


def _init_source(config: ContainerConfig, facts: HostFacts, attachments: list[Step]) -> list[Step]:
    if not config.init:
        return []
    if not facts.init_path:
        raise Invalid("init=true needs a static init on this node: install the package tini or catatonit")
    attachments.append(("attach", "/sbin/docker-init"))
    return [("source", "/sbin/docker-init", facts.init_path, True)]
