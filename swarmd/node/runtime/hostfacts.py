"""Looks at this machine once, for what the plans of its containers depend on."""

from __future__ import annotations

import contextlib
import glob
import os
import resource
from collections.abc import Mapping

from swarmd.node.runtime.core import defaults
from swarmd.node.runtime.core.cgroups import Cgroups
from swarmd.node.runtime.core.facts import HostFacts
from swarmd.node.runtime.core.linux import CAPABILITIES, RLIMITS

_INITS = (
    "/usr/bin/docker-init", "/usr/libexec/docker/docker-init", "/usr/bin/tini-static", "/usr/bin/catatonit",
    "/usr/libexec/podman/catatonit", "/sbin/docker-init",
)  # fmt: skip
_THERMAL = "/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle"
_SHOWN = ("memory", "cpu", "cpuset", "pids")


def gather(layout: Cgroups, remap: tuple[int, int] = (0, 0)) -> HostFacts:
    """Trying to mask what does not exist costs milliseconds per container, so it is learned here."""
    masked = [path for path in (*defaults.MASKED, *sorted(glob.glob(_THERMAL))) if os.path.exists(path)]
    grantable = _capabilities()
    return HostFacts(
        masked_files=tuple(path for path in masked if not os.path.isdir(path)),
        masked_dirs=tuple(path for path in masked if os.path.isdir(path)),
        readonly=tuple(path for path in defaults.READONLY if os.path.exists(path)),
        hard_limits=_hard_limits(grantable),
        cgroup_mounts=("v2",) if layout.pure_v2 else _shown(layout.v1_mounts),
        init_path=next((path for path in _INITS if os.access(path, os.X_OK)), ""),
        grantable=grantable,
        remap=remap,
        security_modules=_security_modules(),
        machine=os.uname().machine,
        kernel=_kernel(),
    )


def _security_modules() -> tuple[str, ...]:
    enabled = []
    with contextlib.suppress(OSError), open("/sys/module/apparmor/parameters/enabled", "rb") as file:
        enabled += ["apparmor"] if file.read(1) == b"Y" else []
    return (*enabled, *(["selinux"] if os.path.exists("/sys/fs/selinux/enforce") else []))


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split("-")[0].split(".")[:2]
    return int(major), int(minor.rstrip("+"))


def _shown(mounts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(names for names in mounts if any(name in _SHOWN for name in names.split(",")))


def _capabilities() -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("CapPrm:"):
                return int(line.split()[1], 16)
    return 0


def _hard_limits(capabilities: int) -> Mapping[str, int]:
    """Nothing if we may raise them; else our own, which nobody below us can exceed."""
    if capabilities >> CAPABILITIES["SYS_RESOURCE"] & 1:
        return {}
    hard = {name: resource.getrlimit(number)[1] for name, number in RLIMITS.items()}
    return {name: limit for name, limit in hard.items() if limit != resource.RLIM_INFINITY}
