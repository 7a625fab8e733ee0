"""The port of the container runtime: what an agent says to it, and the shapes of both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from swarmd.node.runtime.exec_port import ExecConfig, Session
from swarmd.node.runtime.measures import BlockUse, ContainerStats, InterfaceUse, Process

__all__ = [
    "BlockUse", "ContainerConfig", "ContainerState", "ContainerStats", "Device", "Files", "InterfaceUse",
    "Limits", "Mount", "Process", "Runtime", "Status", "Throttle", "Ulimit",
]  # fmt: skip

Status = Literal["created", "running", "exited"]


class Mount(msgspec.Struct, frozen=True):
    """One thing put into the container's file system.

    ``source`` is a host path (``bind``, ``volume``, ``image``: the topmost of its layers, ``layers`` holds
    those below) and unused for ``tmpfs``; ``target`` is an absolute path in the container; ``subpath`` is
    looked up inside ``source`` and never leaves it; ``size`` is in bytes (0: half of the memory, as the
    kernel does) and ``mode`` the permission bits of a tmpfs root, ``options`` more of its mount options
    (``noexec``).  ``recursive``: ``enabled`` takes mounts below the source along (read-only with it where the
    kernel can), ``disabled`` not, ``writable`` leaves those below writable, ``readonly`` refuses where they
    cannot be made read-only.  ``copy_up`` fills an empty volume with what the image has at ``target``.
    """

    target: str
    source: str = ""
    kind: Literal["bind", "tmpfs", "volume", "image"] = "bind"
    readonly: bool = False
    size: int = 0
    mode: int = 0o1777
    subpath: str = ""
    layers: tuple[str, ...] = ()
    propagation: str = "rprivate"
    recursive: Literal["enabled", "disabled", "writable", "readonly"] = "enabled"
    options: tuple[str, ...] = ()
    copy_up: bool = False


class Files(msgspec.Struct, frozen=True):
    """Contents of the generated files that are bind-mounted over /etc; an empty one is left out."""

    hosts: str = ""
    hostname: str = ""
    resolv_conf: str = ""


class Ulimit(msgspec.Struct, frozen=True):
    """One resource limit: ``name`` as in ``ulimit`` options of Docker (``nofile``); -1 is unlimited."""

    name: str
    soft: int
    hard: int


class Device(msgspec.Struct, frozen=True):
    """A device node of the host: its path there, its path in the container, what is allowed (of ``rwm``)."""

    source: str
    target: str = ""
    permissions: str = "rwm"


class Throttle(msgspec.Struct, frozen=True):
    """A limit on one block device: ``rate`` in bytes or operations a second."""

    device: str
    rate: int


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a container may use at most; 0 or empty: no limit, or the kernel's default.

    ``memory`` and ``memory_reservation`` are bytes; ``memory_swap`` is memory and swap together, as in Docker
    (-1: any amount of swap; 0: twice the memory); ``swappiness`` is 0 to 100 (None: not set).  ``nano_cpus``
    are 1e-9 CPUs; ``cpu_quota`` and ``cpu_period`` microseconds, instead of them.  ``cpuset_cpus`` and
    ``cpuset_mems`` are lists as in ``0-3,7``.  ``blkio_weight`` is 10 to 1000.
    """

    memory: int = 0
    memory_reservation: int = 0
    memory_swap: int = 0
    swappiness: int | None = None
    oom_kill_disable: bool = False
    nano_cpus: int = 0
    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int = 0
    blkio_weight: int = 0
    read_bps: tuple[Throttle, ...] = ()
    write_bps: tuple[Throttle, ...] = ()
    read_iops: tuple[Throttle, ...] = ()
    write_iops: tuple[Throttle, ...] = ()


class ContainerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All a runtime needs to know to make one container.

    ``lower_dirs`` are the image layers, topmost first.  ``args`` is the full command; ``args[0]`` without
    a slash is looked up in the PATH of ``env`` (``NAME=value``).  ``user`` is ``""`` (root), a name or id,
    optionally ``:group``, resolved from the container's own files; ``groups`` are more groups of it, by name
    or id.  ``log_max_size`` is in bytes.  Capabilities are named with or without ``CAP_``; ``ALL`` is
    understood.  ``seccomp`` is empty (the default profile), ``unconfined`` or a profile in Docker's JSON.
    ``pid_mode``, ``ipc_mode``, ``uts_mode``, ``cgroupns_mode`` are empty (its own), ``host``, or
    ``container:ID``; ``network_mode`` is empty (its own), ``host``, ``none`` or ``container:ID``.  ``userns``
    is ``host`` (no user namespace), or empty: as the node is set.  ``runtime`` names the program that runs
    it (empty: the node's default, ``local``: none but ours).  ``devices`` have been checked against the
    node's list.
    """

    id: str
    lower_dirs: tuple[str, ...]
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    hostname: str = ""
    mounts: tuple[Mount, ...] = ()
    files: Files = Files()
    limits: Limits = Limits()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    read_only: bool = False
    init: bool = False
    stop_signal: str = "SIGTERM"
    labels: Mapping[str, str] = {}
    log_max_size: int = 10 * 1024 * 1024
    log_max_files: int = 3
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: Mapping[str, str] = {}
    seccomp: str = ""
    groups: tuple[str, ...] = ()
    domainname: str = ""
    tty: bool = False
    stdin: bool = False
    privileged: bool = False
    devices: tuple[Device, ...] = ()
    device_rules: tuple[str, ...] = ()
    network_mode: str = ""
    pid_mode: str = ""
    ipc_mode: str = ""
    uts_mode: str = ""
    cgroupns_mode: str = ""
    userns: str = ""
    oom_score_adj: int = 0
    shm_size: int = 64 * 1024 * 1024
    runtime: str = ""
    annotations: Mapping[str, str] = {}


class ContainerState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a container stands.

    ``pid`` is 0 unless created or running.  Times are seconds since 1970, 0.0 if it has not happened.
    ``exit_code`` is None until exited; 128+N for signal N, 255 if it was lost.  ``error`` is a sentence
    when the container never ran or its end could not be observed.  ``oom_killed``: the kernel has killed any
    of its processes for want of memory, not only the first.  ``paused`` stands beside ``running``.
    """

    id: str
    status: Status
    pid: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    paused: bool = False
    started_at: float = 0.0
    finished_at: float = 0.0
    error: str = ""


class Runtime(Protocol):
    """Runs containers on this node.

    Unknown ids raise :class:`swarmd.model.errors.NotFound`; an id in use :class:`Conflict`; a step out of
    order :class:`Refused`; a config that can never run :class:`Invalid` (from :meth:`start` with an
    ``exit_code`` attribute of 126, 127 or 128).
    """

    async def start_up(self) -> None:
        """Connect to what runs already.  Containers still run; exits missed meanwhile are reported."""
        ...

    async def create(self, config: ContainerConfig) -> int:
        """Everything but the user's program; answers the pid that holds the namespaces.

        A network namespace of its own has ``lo`` up.  An error leaves nothing.
        """
        ...

    async def start(self, container_id: str) -> None:
        """Run the program.  Returns when it has been executed, raises when it cannot be."""
        ...

    async def wait(self, container_id: str) -> ContainerState:
        """The final state, as soon as there is one."""
        ...

    async def stop(self, container_id: str, *, signal: str = "", grace: float = 10.0) -> ContainerState:
        """Signal (empty: the config's), wait ``grace`` seconds, kill the whole cgroup; the final state."""
        ...

    async def kill(self, container_id: str, signal: str = "SIGKILL") -> None:
        """Send one signal to the container's first process.  A paused container goes on to meet it."""
        ...

    async def pause(self, container_id: str) -> None:
        """Returns when every process stands still; refused unless it is running."""
        ...

    async def resume(self, container_id: str) -> None:
        """Let a paused container go on."""
        ...

    async def update(self, container_id: str, limits: Limits) -> None:
        """Other limits for a container that has not exited, all of them or none; they are kept on disk."""
        ...

    async def exec(self, container_id: str, config: ExecConfig) -> Session:
        """Run a further program in a running container.  Returns when it has been executed.

        :class:`Refused` unless the container runs.
        """
        ...

    async def attach(self, container_id: str, *, logs: bool = False) -> Session:
        """To the program of a container that is created or runs: all it writes from now on.

        With ``logs`` also all it has written, as far as its log has it; nothing is missing or twice in
        between.  Who reads slowly does not hold it up.  :class:`Refused` when it has exited.
        """
        ...

    async def remove(self, container_id: str) -> None:
        """Delete exactly what :meth:`create` made.  Refused while it runs."""
        ...

    def list(self) -> list[ContainerState]: ...

    def inspect(self, container_id: str) -> ContainerState | None: ...

    def config(self, container_id: str) -> ContainerConfig | None:
        """The config a container was made from, also after a restart of the daemon."""
        ...

    async def stats(self, container_id: str) -> ContainerStats:
        """What it uses; refused when it has exited."""
        ...

    async def top(self, container_id: str) -> Sequence[Process]:
        """All processes in its cgroup, by pid; refused when it has exited."""
        ...

    async def shut_down(self, *, stop_containers: bool) -> None:
        """Let go.  Containers run on unless ``stop_containers``; the spawner stays while one runs."""
        ...
