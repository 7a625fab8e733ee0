"""The config.json of an OCI bundle as data, and what makes one invalid.

Read and written in the form of runtime-spec 1.0.2, with those additions of later versions that a Linux
container can use.  Unknown properties are passed over; a value that cannot be right is refused with the path
of its field.  ``null`` stands for a property that is not there, as Go programs write it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core.oci_check import check
from swarmd.node.runtime.core.oci_resources import (
    BlockIO,
    Cpu,
    DeviceRule,
    HugepageLimit,
    Memory,
    Network,
    Part,
    Pids,
    Rdma,
    Resources,
    ThrottleDevice,
    Unsigned,
    WeightDevice,
)

__all__ = [
    "BlockIO", "Cpu", "DeviceRule", "HugepageLimit", "Memory", "Network", "Part", "Pids", "Rdma", "Resources",
    "ThrottleDevice", "Unsigned", "WeightDevice",
]  # fmt: skip

T = TypeVar("T", bound=Part)

VERSION = "1.0.2"  # Debian's crun refuses a newer one

Id = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
NamespaceType = Literal["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]


class Root(Part, frozen=True, kw_only=True):
    """``path`` relative to the bundle or absolute."""

    path: str
    readonly: bool = False


class ConsoleSize(Part, frozen=True, kw_only=True):
    height: Unsigned = 0
    width: Unsigned = 0


class User(Part, frozen=True, kw_only=True):
    uid: Id = 0
    gid: Id = 0
    umask: Id | None = None
    additional_gids: tuple[Id, ...] = ()


class Capabilities(Part, frozen=True, kw_only=True):
    """Names with ``CAP_``."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(Part, frozen=True, kw_only=True):
    """``type`` as ``RLIMIT_NOFILE``; 2**64-1 is unlimited."""

    type: str
    soft: Unsigned
    hard: Unsigned


class Scheduler(Part, frozen=True, kw_only=True):
    """``policy`` as ``SCHED_OTHER``; ``runtime``, ``deadline`` and ``period`` in nanoseconds."""

    policy: str
    nice: int = 0
    priority: int = 0
    flags: tuple[str, ...] = ()
    runtime: Unsigned = 0
    deadline: Unsigned = 0
    period: Unsigned = 0


class IoPriority(Part, frozen=True, kw_only=True):
    io_class: str = msgspec.field(name="class")
    priority: int = 0


class CpuAffinity(Part, frozen=True, kw_only=True):
    """Lists as in ``0-3,7``."""

    initial: str = ""
    final: str = ""


class Process(Part, frozen=True, kw_only=True):
    """The program and what it may do."""

    terminal: bool = False
    console_size: ConsoleSize | None = None
    user: User = User()
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    cwd: str
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    selinux_label: str = ""
    oom_score_adj: int | None = None
    scheduler: Scheduler | None = None
    io_priority: IoPriority | None = None
    exec_cpu_affinity: CpuAffinity | None = msgspec.field(default=None, name="execCPUAffinity")


class IdMapping(Part, frozen=True, kw_only=True):
    container_id: Id = msgspec.field(name="containerID")
    host_id: Id = msgspec.field(name="hostID")
    size: Id


class Mount(Part, frozen=True, kw_only=True):
    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()


class Hook(Part, frozen=True, kw_only=True):
    """``timeout`` in seconds."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None


class Hooks(Part, frozen=True, kw_only=True):
    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


class Namespace(Part, frozen=True, kw_only=True):
    """A new one, or the one ``path`` leads to."""

    type: NamespaceType
    path: str = ""


class TimeOffset(Part, frozen=True, kw_only=True):
    secs: int = 0
    nanosecs: Unsigned = 0


class Device(Part, frozen=True, kw_only=True):
    """``type`` is ``c``, ``b``, ``u`` (as ``c``) or ``p``."""

    type: Literal["c", "b", "u", "p"]
    path: str
    major: int = 0
    minor: int = 0
    file_mode: Unsigned | None = None
    uid: Id | None = None
    gid: Id | None = None


class SyscallArg(Part, frozen=True, kw_only=True):
    index: Unsigned
    value: Unsigned
    value_two: Unsigned = 0
    op: str


class Syscall(Part, frozen=True, kw_only=True):
    names: tuple[str, ...]
    action: str
    errno_ret: Unsigned | None = None
    args: tuple[SyscallArg, ...] = ()


class Seccomp(Part, frozen=True, kw_only=True):
    """A system call filter; what is not listed gets ``default_action``."""

    default_action: str
    default_errno_ret: Unsigned | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[Syscall, ...] = ()


class Personality(Part, frozen=True, kw_only=True):
    domain: str
    flags: tuple[str, ...] = ()


class Linux(Part, frozen=True, kw_only=True):
    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    time_offsets: Mapping[str, TimeOffset] = {}
    devices: tuple[Device, ...] = ()
    cgroups_path: str = ""
    resources: Resources | None = None
    rootfs_propagation: str = ""
    seccomp: Seccomp | None = None
    sysctl: Mapping[str, str] = {}
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""
    personality: Personality | None = None
    intel_rdt: Mapping[str, Any] | None = None


class Spec(Part, frozen=True, kw_only=True):
    """A whole config.json."""

    oci_version: str
    root: Root | None = None
    process: Process | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    hooks: Hooks | None = None
    annotations: Mapping[str, str] = {}
    linux: Linux = Linux()

    def namespace(self, kind: NamespaceType) -> Namespace | None:
        """The entry of that type; None: the container stays in the runtime's own."""
        return next((space for space in self.linux.namespaces if space.type == kind), None)


def decode(data: bytes) -> Spec:
    """The spec in a config.json; :class:`Invalid` with the path of the field that is wrong."""
    spec = read(data, Spec, "config.json")
    check(spec)
    return spec


def encode(spec: Part) -> bytes:
    """As JSON, as runtimes of 1.0.2 read it."""
    return msgspec.json.encode(spec)


def read(data: bytes, kind: type[T], name: str) -> T:
    """JSON as ``kind``; only the form is checked.  :class:`Invalid` with the path of the field."""
    try:
        return msgspec.convert(_without_nulls(msgspec.json.decode(data)), kind)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `")
        field = where.rstrip("`").removeprefix("$").lstrip(".")
        raise Invalid(f"{name}: {field + ': ' if field else ''}{problem[:1].lower()}{problem[1:]}") from None
    except msgspec.DecodeError as error:
        raise Invalid(f"{name} is not JSON: {error}") from None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
