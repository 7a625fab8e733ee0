"""Compiles a config.json and what is known of this machine into a flat list of steps for the cloned child.

Each step is a tuple of plain values whose first item names a function of ``child.py``; the child obeys them
in order and decides nothing.  ``("hooks", name, …)`` sends ``("paused", name)`` and waits for a packet, the
state of the container as JSON; only bundles of others have hooks.

    join cgroups → enter namespaces → limits → take sources → root, pivot → mounts, devices, masks → names
    → ready | → rights, filter, user → exec
"""

from __future__ import annotations

import posixpath
from typing import Any

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import linux, oci, plan_mounts, plan_process, plan_remap
from swarmd.node.runtime.core.extensions import Extensions, Overlay, extensions
from swarmd.node.runtime.core.facts import HostFacts, Layout
from swarmd.node.runtime.core.mountopts import PROPAGATION

Step = tuple[Any, ...]

_FLAGS: dict[str, int] = {
    "user": linux.CLONE_NEWUSER,
    "mount": linux.CLONE_NEWNS,
    "pid": linux.CLONE_NEWPID,
    "network": linux.CLONE_NEWNET,
    "ipc": linux.CLONE_NEWIPC,
    "uts": linux.CLONE_NEWUTS,
    "cgroup": linux.CLONE_NEWCGROUP,
    "time": linux.CLONE_NEWTIME,
}
# Those the child makes itself, once it is in its cgroups and has told the clock's offsets.
_LATER = ("cgroup", "time")
# Those a process does not change for itself: whoever clones it enters them before.
_BEFORE = ("user", "pid")


def clone_flags(spec: oci.Spec) -> int:
    """The new namespaces the child is to be cloned into."""
    flags = 0
    for space in spec.linux.namespaces:
        if not space.path and space.type not in _LATER:
            flags |= _FLAGS[space.type]
    if plan_remap.is_remapped(spec, extensions(spec.annotations)):
        return linux.CLONE_NEWNS  # the others are made from within the user namespace
    return flags


def entered_before(spec: oci.Spec) -> tuple[tuple[str, int], ...]:
    """(path, CLONE_NEW… flag) of the namespaces to be in while cloning: the user's first."""
    spaces = [spec.namespace("user"), spec.namespace("pid")]
    return tuple((space.path, _FLAGS[space.type]) for space in spaces if space is not None and space.path)


def warnings(spec: oci.Spec, facts: HostFacts) -> tuple[str, ...]:
    """What the spec asks for and is left out, as sentences."""
    out = list(plan_process.warnings(spec, facts))
    if spec.linux.intel_rdt is not None:
        out.append("linux.intelRdt is not supported and left out")
    return tuple(out)


def compile_plan(spec: oci.Spec, facts: HostFacts, layout: Layout, seccomp: bytes | None) -> list[Step]:
    """The steps: those up to ``("ready",)`` are done at create, the rest at start.

    ``spec`` has passed :func:`oci_check.check`; it is one of ours or anybody's.  ``seccomp`` is a compiled
    filter, None runs without one.  Raises :class:`Invalid` for what cannot be done on this machine.
    """
    if spec.root is None or spec.process is None:
        raise Invalid("config.json: root and process are needed to run a container")
    if spec.namespace("mount") is None:
        raise Invalid("config.json: a mount namespace is needed in linux.namespaces")
    extra = extensions(spec.annotations)
    remapped = extra.overlay is not None and plan_remap.is_remapped(spec, extra)
    return [
        ("join", list(layout.v1_procs), _is_new(spec, "cgroup") and not remapped),
        *_enter(spec),
        *plan_process.limits(spec.process, facts),
        *_personality(spec),
        *(_mapped_files if remapped else _files)(spec, facts, layout, extra),
        *_sysctls(spec),
        *([("mask", list(spec.linux.masked_paths))] if spec.linux.masked_paths else []),
        *([("readonly", list(spec.linux.readonly_paths))] if spec.linux.readonly_paths else []),
        *_console(spec.process),
        ("workdir", spec.process.cwd),
        *([("readonly_root",)] if spec.root.readonly else []),
        *_root_propagation(spec),
        *([("loopback",)] if _is_new(spec, "network") else []),
        *([("hostname", spec.hostname)] if spec.hostname else []),
        *([("domainname", spec.domainname)] if spec.domainname else []),
        plan_process.user(spec.process, extra),
        ("ready",),
        *hooks("start_container", spec.hooks.start_container if spec.hooks else ()),
        *plan_process.start(spec.process, facts, seccomp, filter_flags(spec)),
    ]


def _files(spec: oci.Spec, facts: HostFacts, layout: Layout, extra: Extensions) -> list[Step]:
    """Sources are taken while the host's tree is in sight and not yet cut off from it."""
    sources, attachments = plan_mounts.mounts(spec, facts, layout, extra)
    root = posixpath.join(layout.bundle or "/", spec.root.path if spec.root else "")
    layers = extra.overlay
    return [
        *sources,
        ("private",),
        *plan_mounts.layers(spec, root, extra),
        ("overlay", root, list(layers.lower), layers.upper, layers.work) if layers else ("rootfs", root),
        *_hooks_before_pivot(spec),
        ("pivot", root),
        *attachments,
        *plan_mounts.devices(spec),
    ]


def _mapped_files(spec: oci.Spec, facts: HostFacts, layout: Layout, extra: Extensions) -> list[Step]:
    flags = 0
    for space in spec.linux.namespaces:
        flags |= 0 if space.path or space.type in ("user", "time") else _FLAGS[space.type]
    layers = extra.overlay or Overlay((), "", "")
    return plan_remap.files(spec, facts, layout, extra, layers, flags)


def _hooks_before_pivot(spec: oci.Spec) -> list[Step]:
    """Those of the host's namespaces are run by who drives the child, while it waits."""
    if spec.hooks is None:
        return []
    outside = spec.hooks.prestart or spec.hooks.create_runtime
    steps: list[Step] = [("hooks", "create_runtime", [])] if outside else []
    return steps + hooks("create_container", spec.hooks.create_container)


def hooks(name: str, wanted: tuple[oci.Hook, ...]) -> list[Step]:
    """The child asks for the state of the container by ``("paused", name)`` and hands it to each of them."""
    if not wanted:
        return []
    plain = [
        (
            hook.path,
            list(hook.args) or [hook.path],
            dict(entry.partition("=")[::2] for entry in hook.env),
            hook.timeout or 0,
        )
        for hook in wanted
    ]
    return [("hooks", name, plain)]


def _personality(spec: oci.Spec) -> list[Step]:
    wanted = spec.linux.personality
    return [("personality", linux.PERSONALITIES[wanted.domain])] if wanted is not None else []


def filter_flags(spec: oci.Spec) -> int:
    """Of seccomp(2); :class:`Invalid` for a name that does not exist."""
    flags = 0
    for name in spec.linux.seccomp.flags if spec.linux.seccomp is not None else ():
        if name not in linux.SECCOMP_FLAGS:
            raise Invalid(f"seccomp: flag {name!r} is not one of {', '.join(linux.SECCOMP_FLAGS)}")
        flags |= linux.SECCOMP_FLAGS[name]
    return flags


def _console(process: oci.Process) -> list[Step]:
    if not process.terminal:
        return []
    size = process.console_size or oci.ConsoleSize()
    return [("console", size.height, size.width)]


def _is_new(spec: oci.Spec, kind: oci.NamespaceType) -> bool:
    space = spec.namespace(kind)
    return space is not None and not space.path


def _enter(spec: oci.Spec) -> list[Step]:
    steps: list[Step] = [
        ("enter", space.path, _FLAGS[space.type])
        for space in spec.linux.namespaces
        if space.path and space.type not in _BEFORE
    ]
    if _is_new(spec, "time"):
        offsets = spec.linux.time_offsets
        steps.append(("time", [(clock, offset.secs, offset.nanosecs) for clock, offset in offsets.items()]))
    return steps


def _sysctls(spec: oci.Spec) -> list[Step]:
    return [("sysctl", name.replace(".", "/"), value) for name, value in spec.linux.sysctl.items()]


def _root_propagation(spec: oci.Spec) -> list[Step]:
    wanted = spec.linux.rootfs_propagation
    return [("propagation", PROPAGATION[wanted])] if wanted else []
