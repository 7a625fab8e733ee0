"""What the plan of a container depends on and only this machine knows, as data."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """``masked_files``, ``masked_dirs`` and ``readonly`` are the paths that exist here; ``hard_limits`` the
    highest rlimits that can be given; ``cgroup_mounts`` what to show at /sys/fs/cgroup: ``("v2",)`` or v1
    controllers; ``init_path`` a static init or ""; ``grantable`` the capabilities that can be given, as bits;
    ``security_modules`` those that label processes (``apparmor``, ``selinux``); ``machine`` as uname says it;
    ``kernel`` its version; ``remap`` the host id of containers' root and how many follow (0, 0: none).
    """

    masked_files: tuple[str, ...] = ()
    masked_dirs: tuple[str, ...] = ()
    readonly: tuple[str, ...] = ()
    hard_limits: Mapping[str, int] = {}
    cgroup_mounts: tuple[str, ...] = ()
    init_path: str = ""
    grantable: int = -1
    security_modules: tuple[str, ...] = ()
    machine: str = "x86_64"
    kernel: tuple[int, int] = (6, 1)
    remap: tuple[int, int] = (0, 0)


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Where a container's own things are on the host: ``bundle`` its directory, to which a relative
    ``root.path`` belongs; ``v1_procs`` the files through which it joins its cgroups; ``groups``: what is
    mounted (``HostFacts.cgroup_mounts``) → its own directory there, for one without a cgroup namespace."""

    bundle: str = ""
    root: str = ""
    upper: str = ""
    work: str = ""
    files: str = ""
    v1_procs: tuple[str, ...] = ()
    groups: Mapping[str, str] = {}
