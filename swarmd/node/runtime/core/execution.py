"""What is executed in a running container: the request, its checks, and the steps of the cloned child.

The child stands in the container's pid namespace and cgroup already; ``enter_container`` takes it into the
others.
"""

from __future__ import annotations

from typing import Any

from swarmd.model.errors import Invalid
from swarmd.model.replace import replace
from swarmd.node.runtime.core import bundle, defaults, oci, plan_process
from swarmd.node.runtime.core.extensions import Extensions
from swarmd.node.runtime.core.facts import HostFacts
from swarmd.node.runtime.core.validate import check_texts
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
    """The steps.  ``config`` is the container's, ``procs`` the files of v1 groups to join by, ``seccomp``
    the compiled filter of the container (None: none)."""
    process = _process(bundle.process(config, facts), wanted, facts)
    who = Extensions(user=wanted.user or config.user, groups=(*config.groups, *wanted.groups))
    return [
        *plan_process.limits(process, facts),
        ("enter_container", list(procs), wanted.own_group and config.cgroupns_mode != "host"),
        *([("terminal", wanted.size.rows, wanted.size.columns)] if wanted.tty else []),
        plan_process.user(process, who),
        *plan_process.start(process, facts, seccomp),
    ]


def _process(base: oci.Process, wanted: ExecConfig, facts: HostFacts) -> oci.Process:
    """The container's own, with what the further program is to have otherwise."""
    env = dict(entry.partition("=")[::2] for entry in base.env)
    if wanted.tty:
        env.setdefault("TERM", "xterm")
    env |= dict(entry.partition("=")[::2] for entry in wanted.env)
    capabilities = base.capabilities
    if wanted.privileged:
        every = tuple(f"CAP_{name}" for name in defaults.capability_order(facts.grantable))
        capabilities = oci.Capabilities(bounding=every, effective=every, permitted=every)
    return replace(
        base,
        args=wanted.args,
        cwd=wanted.cwd or base.cwd,
        env=tuple(f"{name}={value}" for name, value in env.items()),
        capabilities=capabilities,
    )
