"""Encodes the plan of a container for the cloned child, with its system call filter."""

from __future__ import annotations

import marshal

from swarmd.node.runtime.core.defaults import capability_mask, capability_names
from swarmd.node.runtime.core.execution import compile_exec
from swarmd.node.runtime.core.plan import HostFacts, Layout, compile_plan
from swarmd.node.runtime.exec_port import ExecConfig
from swarmd.node.runtime.port import ContainerConfig
from swarmd.node.runtime.seccomp import Compiler


class Planner:
    """Knows this machine; keeps compiled filters."""

    def __init__(self, facts: HostFacts) -> None:
        self._facts = facts
        self._compiler = Compiler()

    def plan(self, config: ContainerConfig, layout: Layout) -> bytes:
        """The steps as ``child.py`` reads them.

        Raises :class:`Invalid` for a config this machine cannot run, :class:`Unavailable` without libseccomp.
        """
        return marshal.dumps(compile_plan(config, self._facts, layout, self._filter(config)))

    def exec_plan(self, config: ContainerConfig, wanted: ExecConfig, procs: tuple[str, ...]) -> bytes:
        """The same for a further program in the container of ``config``; ``procs`` are v1 groups to join."""
        steps = compile_exec(config, wanted, self._facts, procs=procs, seccomp=self._filter(config))
        return marshal.dumps(steps)

    def _filter(self, config: ContainerConfig) -> bytes | None:
        if config.seccomp == "unconfined":
            return None
        mask = capability_mask(config.cap_add, config.cap_drop, grantable=self._facts.grantable)
        return self._compiler.filter_for(capability_names(mask))
