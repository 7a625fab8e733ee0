"""The process part of a plan: limits early, then rights, filter, user and program."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import linux, oci
from swarmd.node.runtime.core.extensions import Extensions
from swarmd.node.runtime.core.facts import HostFacts

Step = tuple[Any, ...]

_UNLIMITED = 2**63  # setrlimit(2) takes more than this for unlimited
_DEFAULT_UMASK = 0o022


def limits(process: oci.Process, facts: HostFacts) -> list[Step]:
    """What must happen before capabilities go, while the host's /proc is in sight."""
    steps: list[Step] = []
    if process.oom_score_adj is not None:
        steps.append(("oom_score_adj", process.oom_score_adj))
    for limit in process.rlimits:
        number = linux.RLIMITS[limit.type.removeprefix("RLIMIT_").lower()]
        steps.append(("rlimit", number, _rlimit(limit.soft), _rlimit(limit.hard)))
    scheduler = process.scheduler
    if scheduler is not None:
        flags = sum(linux.SCHED_FLAGS[name] for name in scheduler.flags)
        steps.append((
            "scheduler", linux.SCHED_POLICIES[scheduler.policy], flags, scheduler.nice, scheduler.priority,
            scheduler.runtime, scheduler.deadline, scheduler.period,
        ))  # fmt: skip
    priority = process.io_priority
    if priority is not None:
        steps.append(("io_priority", linux.IO_CLASSES[priority.io_class] << 13 | priority.priority))
    return steps


def _rlimit(value: int) -> int:
    return -1 if value >= _UNLIMITED else value


def user(process: oci.Process, extra: Extensions) -> Step:
    """By name, from the container's own files, or as the spec has it."""
    if extra.user is not None:
        return ("user", extra.user, list(extra.groups))
    who = process.user
    return ("ids", who.uid, who.gid, list(who.additional_gids))


def start(process: oci.Process, facts: HostFacts, seccomp: bytes | None, flags: int = 0) -> list[Step]:
    """With no_new_privs a filter needs no capability, so it comes last and confines nothing of ours."""
    label = _label(process, facts)
    bounding, *sets = _capability_sets(process, facts)
    umask = _DEFAULT_UMASK if process.user.umask is None else process.user.umask
    filters: list[Step] = [("seccomp", seccomp, flags)] if seccomp is not None else []
    env = dict(entry.partition("=")[::2] for entry in process.env)
    become: list[Step] = [
        ("identity", umask, *sets),
        ("chdir", process.cwd),
        ("program", process.args[0] if process.args else "", env.get("PATH", "")),
    ]
    steps: list[Step] = [*label, ("bounding", bounding)]
    if process.no_new_privileges:
        steps += [*become, ("no_new_privs",), *filters]
    else:
        steps += [*filters, *become]
    return [*steps, ("exec", list(process.args), env)]


def _label(process: oci.Process, facts: HostFacts) -> list[Step]:
    """Given to the kernel for the moment of the exec; :class:`Invalid` where nothing reads it."""
    profile = process.apparmor_profile
    if profile not in ("", "unconfined"):
        _need("apparmor", f"process.apparmorProfile {profile!r}", facts)
        return [("label", "apparmor/exec", f"exec {profile}")]
    if process.selinux_label:
        _need("selinux", f"process.selinuxLabel {process.selinux_label!r}", facts)
        return [("label", "exec", process.selinux_label)]
    return []


def _need(module: str, what: str, facts: HostFacts) -> None:
    if module not in facts.security_modules:
        raise Invalid(f"config.json: {what}: {module} is not enabled on this machine; leave it empty")


def _capability_sets(process: oci.Process, facts: HostFacts) -> tuple[int, int, int, int, int]:
    """Bounding, effective, permitted, inheritable, ambient: as asked, of what can be given."""
    asked = process.capabilities or oci.Capabilities()
    bounding = _mask(asked.bounding) & facts.grantable
    permitted = _mask(asked.permitted) & facts.grantable
    inheritable = _mask(asked.inheritable) & facts.grantable
    ambient = _mask(asked.ambient) & permitted & inheritable
    return bounding, _mask(asked.effective) & permitted, permitted, inheritable, ambient


def _mask(names: Iterable[str]) -> int:
    bits = (linux.CAPABILITIES.get(name.removeprefix("CAP_").upper()) for name in names)
    mask = 0
    for bit in bits:
        if bit is not None:
            mask |= 1 << bit
    return mask


def warnings(spec: oci.Spec, facts: HostFacts) -> tuple[str, ...]:
    """Capabilities that do not exist or cannot be given."""
    if spec.process is None or spec.process.capabilities is None:
        return ()
    asked = spec.process.capabilities
    names = sorted({*asked.bounding, *asked.permitted, *asked.effective, *asked.inheritable, *asked.ambient})
    out = []
    for name in names:
        bit = linux.CAPABILITIES.get(name.removeprefix("CAP_").upper())
        if bit is None:
            out.append(f"capability {name} is not known and left out")
        elif not facts.grantable >> bit & 1:
            out.append(f"capability {name} cannot be given on this machine and is left out")
    return tuple(out)
