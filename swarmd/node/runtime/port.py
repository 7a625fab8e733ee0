"""The port of the container runtime: what an agent says to it, and the shapes of both sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

Status = Literal["created", "running", "exited"]


class Mount(msgspec.Struct, frozen=True):
    """One thing put into the container's file system.

    ``source`` is a host path (``bind``, ``volume``) and unused for ``tmpfs``; ``target`` is an absolute
    path in the container; ``size`` is in bytes (0: half of the memory, as the kernel does) and ``mode``
    the permission bits of a tmpfs root.
    """

    target: str
    source: str = ""
    kind: Literal["bind", "tmpfs", "volume"] = "bind"
    readonly: bool = False
    size: int = 0
    mode: int = 0o1777


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


class ContainerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All a runtime needs to know to make one container.

    ``lower_dirs`` are the image layers, topmost first.  ``args`` is the full command; ``args[0]`` without
    a slash is looked up in the PATH of ``env`` (``NAME=value``).  ``user`` is ``""`` (root), a name or id,
    optionally ``:group``, resolved from the container's own files.  ``memory_limit`` is in bytes,
    ``nano_cpus`` in 1e-9 CPUs, ``log_max_size`` in bytes; 0 means no limit everywhere.  Capabilities are
    named with or without ``CAP_``; ``ALL`` is understood.
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
    memory_limit: int = 0
    nano_cpus: int = 0
    pids_limit: int = 0
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    read_only: bool = False
    init: bool = False
    stop_signal: str = "SIGTERM"
    host_network: bool = False
    labels: Mapping[str, str] = {}
    log_max_size: int = 10 * 1024 * 1024
    log_max_files: int = 3
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: Mapping[str, str] = {}
    seccomp_unconfined: bool = False


class ContainerState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a container stands.

    ``pid`` is 0 unless created or running.  Times are seconds since 1970, 0.0 if it has not happened.
    ``exit_code`` is None until exited; 128+N for signal N, 255 if it was lost.  ``error`` is a sentence
    when the container never ran or its end could not be observed.
    """

    id: str
    status: Status
    pid: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    started_at: float = 0.0
    finished_at: float = 0.0
    error: str = ""


class ContainerStats(msgspec.Struct, frozen=True):
    """What a container uses now: bytes of memory, nanoseconds of CPU since its start, processes."""

    memory: int = 0
    cpu: int = 0
    pids: int = 0


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

        The network namespace is new (unless ``host_network``) with ``lo`` up.  An error leaves nothing.
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
        """Send one signal to the container's first process."""
        ...

    async def remove(self, container_id: str) -> None:
        """Delete exactly what :meth:`create` made.  Refused while it runs."""
        ...

    def list(self) -> list[ContainerState]: ...

    def inspect(self, container_id: str) -> ContainerState | None: ...

    def config(self, container_id: str) -> ContainerConfig | None:
        """The config a container was made from, also after a restart of the daemon."""
        ...

    async def stats(self, container_id: str) -> ContainerStats: ...

    async def shut_down(self, *, stop_containers: bool) -> None:
        """Let go.  Containers run on unless ``stop_containers``; the spawner stays while one runs."""
        ...
