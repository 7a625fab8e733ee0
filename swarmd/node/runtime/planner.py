"""Makes the bundle of a container and encodes its plan for the cloned child, with its system call filter."""

from __future__ import annotations

import contextlib
import marshal
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from swarmd.node.runtime import driver_oci, hostdevices
from swarmd.node.runtime.core import linux, oci
from swarmd.node.runtime.core.bundle import bundle, seccomp_of
from swarmd.node.runtime.core.execution import compile_exec
from swarmd.node.runtime.core.facts import HostFacts, Layout
from swarmd.node.runtime.core.plan import clone_flags, compile_plan, entered_before
from swarmd.node.runtime.exec_port import ExecConfig
from swarmd.node.runtime.port import ContainerConfig
from swarmd.node.runtime.seccomp import Compiler

CONFIG = "config.json"


class Prepared(msgspec.Struct, frozen=True):
    """``fds``: the steps for ``child.py``, then the pid namespace to be cloned into if it is not a new one;
    ``flags``: the new namespaces."""

    fds: tuple[int, ...]
    flags: int


class Planner:
    """Knows this machine; keeps compiled filters."""

    def __init__(self, facts: HostFacts) -> None:
        self.facts = facts
        self._compiler = Compiler()

    @contextlib.contextmanager
    def prepared(
        self, config: ContainerConfig, layout: Layout, peers: Mapping[str, int], resources: oci.Resources
    ) -> Iterator[Prepared]:
        """Writes the bundle's config.json and answers the plan made of it.

        ``peers``: the pids of the containers whose namespaces it may share.  Raises :class:`Invalid` for a
        config this machine cannot run, :class:`Unavailable` without libseccomp.
        """
        nodes = hostdevices.nodes(config)
        spec = bundle(config, self.facts, layout, peers=peers, nodes=nodes, resources=resources)
        flags, before = clone_flags(spec), entered_before(spec)
        if driver_oci.is_foreign(config):
            spec, steps = driver_oci.prepare(config, spec, layout)
            flags, before = linux.CLONE_NEWNS, ()
        else:
            steps = compile_plan(spec, self.facts, layout, self._program(spec.linux.seccomp))
            _give(layout, spec.linux.uid_mappings)
        Path(layout.bundle, CONFIG).write_bytes(oci.encode(spec))
        with contextlib.ExitStack() as opened:
            plan = os.memfd_create("plan", os.MFD_CLOEXEC)
            opened.callback(os.close, plan)
            os.write(plan, marshal.dumps(steps))
            spaces = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path, _ in before]
            for space in spaces:
                opened.callback(os.close, space)
            yield Prepared((plan, *spaces), flags)

    def exec_plan(self, config: ContainerConfig, wanted: ExecConfig, procs: tuple[str, ...]) -> bytes:
        """The same for a further program in the container of ``config``; ``procs`` are v1 groups to join."""
        program = self._program(seccomp_of(config, self.facts))
        return marshal.dumps(compile_exec(config, wanted, self.facts, procs=procs, seccomp=program))

    def _program(self, profile: oci.Seccomp | None) -> bytes | None:
        return None if profile is None else self._compiler.program(profile)


def _give(layout: Layout, mappings: tuple[oci.IdMapping, ...]) -> None:
    """What is the container's own belongs to its root, also where that is somebody else on the host."""
    if not mappings:
        return
    first = mappings[0].host_id
    top = os.stat(layout.upper)
    os.chown(layout.upper, top.st_uid + first, top.st_gid + first)
    for name in os.listdir(layout.files):
        os.chown(f"{layout.files}/{name}", first, first)
