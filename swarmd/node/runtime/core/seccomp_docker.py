"""A system call filter in Docker's JSON, whose rules may depend on capabilities, machine and kernel."""

from __future__ import annotations

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core.oci import Part, Seccomp, Syscall, SyscallArg, Unsigned, read
from swarmd.node.runtime.core.seccomp import ARCHITECTURES

UNCONFINED = "unconfined"
_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}
_NATIVE = {"SCMP_ARCH_X86_64": "x86_64", "SCMP_ARCH_AARCH64": "aarch64"}


class _Filter(Part, frozen=True, kw_only=True):
    caps: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    min_kernel: str = ""


class _Rule(Part, frozen=True, kw_only=True):
    names: tuple[str, ...] = ()
    name: str = ""
    action: str
    errno_ret: Unsigned | None = None
    args: tuple[SyscallArg, ...] = ()
    includes: _Filter = _Filter()
    excludes: _Filter = _Filter()


class _ArchMap(Part, frozen=True, kw_only=True):
    architecture: str
    sub_architectures: tuple[str, ...] = ()


class _Profile(Part, frozen=True, kw_only=True):
    default_action: str
    default_errno_ret: Unsigned | None = None
    architectures: tuple[str, ...] = ()
    arch_map: tuple[_ArchMap, ...] = ()
    flags: tuple[str, ...] = ()
    listener_path: str = ""
    syscalls: tuple[_Rule, ...] = ()


def from_docker(text: str, capabilities: frozenset[str], machine: str, kernel: tuple[int, int]) -> Seccomp:
    """The rules that hold here for these ``capabilities`` (names without ``CAP_``); :class:`Invalid`."""
    profile = read(text.encode(), _Profile, "seccomp profile")
    if profile.architectures and profile.arch_map:
        raise Invalid("seccomp profile: use either architectures or archMap, not both")
    mapped = [
        name
        for entry in profile.arch_map
        if _NATIVE.get(entry.architecture) == machine
        for name in (entry.architecture, *entry.sub_architectures)
    ]
    return Seccomp(
        default_action=profile.default_action,
        default_errno_ret=profile.default_errno_ret,
        architectures=profile.architectures or tuple(mapped) or ARCHITECTURES.get(machine, ()),
        flags=profile.flags,
        listener_path=profile.listener_path,
        syscalls=tuple(
            _syscall(rule) for rule in profile.syscalls if _holds(rule, capabilities, machine, kernel)
        ),
    )


def _syscall(rule: _Rule) -> Syscall:
    if bool(rule.names) == bool(rule.name):
        raise Invalid("seccomp profile: syscalls: give each rule either names or a name")
    names = rule.names or (rule.name,)
    return Syscall(names=names, action=rule.action, errno_ret=rule.errno_ret, args=rule.args)


def _holds(rule: _Rule, capabilities: frozenset[str], machine: str, kernel: tuple[int, int]) -> bool:
    wanted, unwanted = rule.includes, rule.excludes
    if not capabilities.issuperset(_names(wanted.caps)) or capabilities & _names(unwanted.caps):
        return False
    if (wanted.arches and not _is_here(wanted.arches, machine)) or _is_here(unwanted.arches, machine):
        return False
    if wanted.min_kernel and kernel < _version(wanted.min_kernel):
        return False
    return not (unwanted.min_kernel and kernel >= _version(unwanted.min_kernel))


def _names(capabilities: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name.removeprefix("CAP_") for name in capabilities)


def _is_here(arches: tuple[str, ...], machine: str) -> bool:
    return any(_MACHINES.get(arch) == machine for arch in arches)


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise Invalid(f"seccomp profile: minKernel {text!r}: write it as 4.8")
    return int(major), int(minor)
