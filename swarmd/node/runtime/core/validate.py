"""What a container may not be asked to be, as far as can be seen without looking at the machine."""

from __future__ import annotations

import posixpath
import re

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import defaults, device_filter
from swarmd.node.runtime.core.mountopts import PROPAGATION
from swarmd.node.runtime.port import ContainerConfig, Mount

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_KERNEL_TREES = ("/proc", "/sys")
_MAX_LAYERS = 128
_NAME_MAX = 64


def validate(config: ContainerConfig) -> None:
    """Raises :class:`Invalid` naming the field and its value."""
    if not _ID.fullmatch(config.id):
        raise Invalid(f"container id {config.id!r}: use letters, digits, '_', '.' and '-' only")
    if not config.args or not config.args[0]:
        raise Invalid("no command specified: the image has no entrypoint or cmd, so args must not be empty")
    if not 1 <= len(config.lower_dirs) <= _MAX_LAYERS:
        raise Invalid(f"lower_dirs: {len(config.lower_dirs)} layers; there must be 1 to {_MAX_LAYERS}")
    if not config.cwd.startswith("/"):
        raise Invalid(f"working directory {config.cwd!r} must be an absolute path")
    for what, name in (("hostname", config.hostname), ("domain name", config.domainname)):
        if len(name.encode()) > _NAME_MAX:
            raise Invalid(f"{what} {name!r} is longer than {_NAME_MAX} bytes")
    if not -1000 <= config.oom_score_adj <= 1000:
        raise Invalid(f"oom_score_adj {config.oom_score_adj} is not in -1000..1000")
    check_texts((*config.args, config.cwd, config.user), config.env)
    _check_modes(config)
    _check_sysctls(config)
    for mount in config.mounts:
        _check_mount(mount)
    for rule in config.device_rules:
        device_filter.parse(rule)


def _check_sysctls(config: ContainerConfig) -> None:
    for sysctl in config.sysctls:
        defaults.check_sysctl(
            sysctl,
            host_network=config.network_mode == "host",
            host_ipc=config.ipc_mode == "host",
            host_uts=config.uts_mode == "host",
        )


def check_texts(texts: tuple[str, ...], env: tuple[str, ...]) -> None:
    """Raises :class:`Invalid` for what no program can be given."""
    for text in (*texts, *env):
        if "\0" in text:
            raise Invalid(f"{text!r} contains a zero byte, which no program can be given")
    for entry in env:
        if "=" not in entry or entry.startswith("="):
            raise Invalid(f"env {entry!r}: write NAME=value")


def _check_modes(config: ContainerConfig) -> None:
    allowed = {
        "network_mode": ("", "host", "none", "container:"),
        "pid_mode": ("", "private", "host", "container:"),
        "ipc_mode": ("", "private", "shareable", "host", "container:"),
        "uts_mode": ("", "private", "host"),
        "cgroupns_mode": ("", "private", "host"),
        "userns": ("", "host"),
    }
    for field, modes in allowed.items():
        mode = getattr(config, field)
        peer = mode.startswith("container:") and mode != "container:" and "container:" in modes
        if not peer and (mode not in modes or mode == "container:"):
            names = ", ".join("container:ID" if name == "container:" else name for name in modes if name)
            raise Invalid(f"{field} {mode!r}: use one of {names}, or leave it empty")
    if config.hostname and config.uts_mode == "host":
        raise Invalid(f"hostname {config.hostname!r} cannot be set with the host's uts namespace; remove one")


def _check_mount(mount: Mount) -> None:
    target = posixpath.normpath("/" + mount.target.lstrip("/"))
    if not mount.target.startswith("/") or target == "/":
        raise Invalid(f"mount target {mount.target!r} must be an absolute path other than '/'")
    if any(target == tree or target.startswith(tree + "/") for tree in _KERNEL_TREES):
        raise Invalid(f"mount target {mount.target!r}: nothing may be mounted on /proc or /sys")
    if mount.kind != "tmpfs" and not mount.source.startswith("/"):
        raise Invalid(f"mount source {mount.source!r} for {mount.target} must be an absolute path")
    if mount.propagation not in PROPAGATION or "unbindable" in mount.propagation:
        raise Invalid(f"mount propagation {mount.propagation!r} for {mount.target}: see mount_namespaces(7)")
    if mount.subpath and (mount.subpath.startswith("/") or ".." in mount.subpath.split("/")):
        raise Invalid(f"subpath {mount.subpath!r} for {mount.target} must stay below its source")
    if mount.recursive == "readonly" and not mount.readonly:
        raise Invalid(f"mount {mount.target}: recursive=readonly needs readonly")
