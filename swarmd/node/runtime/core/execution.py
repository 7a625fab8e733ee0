"""What is executed in a running container: the request, its checks, and the steps of the cloned child.

The child stands in the container's pid namespace and cgroup already; ``enter`` takes it into the others.
"""

from __future__ import annotations

from typing import Any

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import defaults
from swarmd.node.runtime.core.plan import HostFacts, check_texts, environment, rlimits
from swarmd.node.runtime.exec_port import ExecConfig, Size
from swarmd.node.runtime.port import ContainerConfig

Step = tuple[Any, ...]

_MAX_SIDE = 0xFFFF


def check(wanted: ExecConfig) -> None:
    """Raises :class:`Invalid` naming the field."""
    if not wanted.args or not wanted.args[0]:
        raise Invalid("no command specified: args must not be empty")
    if wanted.cwd and not wanted.cwd.startswith("/"):
        raise Invalid(f"working directory {wanted.cwd!r} must be an absolute path")
    check_texts((*wanted.args, *wanted.groups, wanted.cwd, wanted.user), wanted.env)
    check_size(wanted.size)


def check_size(size: Size) -> None:
    """Raises :class:`Invalid`."""
    if not (0 <= size.rows <= _MAX_SIDE and 0 <= size.columns <= _MAX_SIDE):
        raise Invalid(f"terminal size {size.rows}x{size.columns}: rows and columns are 0 to {_MAX_SIDE}")


def compile_exec(
    config: ContainerConfig,
    wanted: ExecConfig,
    facts: HostFacts,
    *,
    procs: tuple[str, ...],
    seccomp: bytes | None,
) -> list[Step]:
    """The steps.  ``config`` is the container's, ``procs`` the v1 ``cgroup.procs`` files to join, ``seccomp``
    the compiled filter of the container (None: none)."""
    mask = facts.grantable
    if not wanted.privileged:
        mask = defaults.capability_mask(config.cap_add, config.cap_drop, grantable=facts.grantable)
    return [
        ("enter", list(procs), config.oom_score_adj, wanted.own_group and config.cgroupns_mode != "host"),
        *rlimits(config, facts),
        *([("terminal", wanted.size.rows, wanted.size.columns)] if wanted.tty else []),
        ("user", wanted.user or config.user),
        ("bounding", mask),
        *([("no_new_privs",)] if config.no_new_privileges else []),
        *([("seccomp", seccomp)] if seccomp is not None else []),
        ("identity", mask),
        ("chdir", wanted.cwd or config.cwd),
        ("exec", list(wanted.args), _environment(config, wanted)),
    ]


def _environment(config: ContainerConfig, wanted: ExecConfig) -> dict[str, str]:
    env = environment(config)
    if wanted.tty:
        env.setdefault("TERM", "xterm")
    for entry in wanted.env:
        name, _, value = entry.partition("=")
        env[name] = value
    return env
