"""What users ask for.  Durations are seconds, sizes bytes, CPUs nano-CPUs (10^9 = one core).

Defaults are Docker Swarm's.  ``types.proto`` mirrors these structs field by field.
"""

from __future__ import annotations

import msgspec

from swarmd.model.health import HealthSpec, ProbeSpec
from swarmd.model.network import NetworkAttachment
from swarmd.model.states import Availability, Role


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every spec: immutable, compared by value."""


class PortSpec(Spec, frozen=True, kw_only=True):
    """``--publish``: ``published`` 0 asks the allocator for a free one (30000-32767).

    ``published_end`` > ``published``: any free one from there to here.  ``host_ip``: only on this address, or
    the addresses of the interface of this name.  ``allow``: prefixes of the clients that may connect, all if
    empty.  ``sticky``: a client's address decides which task answers it.
    ``host`` (a name, ``*.example.com`` for all below it) and ``path`` (a prefix) make it a route: HTTP on a
    port that several services share.  ``tls``: the secret with certificate and key that it is served with.
    """

    protocol: str = "tcp"
    target: int = 0
    published: int = 0
    mode: str = "ingress"
    published_end: int = 0
    host_ip: str = ""
    allow: tuple[str, ...] = ()
    sticky: bool = False
    host: str = ""
    path: str = ""
    tls: str = ""

    @property
    def key(self) -> str:
        """Identity of the published side, as an allocation row knows it; see :mod:`swarmd.model.ports`."""
        return f"{self.protocol}/{self.published}" + (f"@{self.host_ip}" if self.host_ip else "")

    @property
    def dynamic(self) -> bool:
        """Whether the number is for the swarm to choose."""
        return not self.published or bool(self.published_end)

    @property
    def is_route(self) -> bool:
        """It shares its port with others, which host name and path tell apart."""
        return bool(self.host or self.path or self.tls)

    @property
    def route(self) -> str:
        """Identity of a route, as an allocation row knows it: ``tcp/80/HOST/PATH``."""
        return f"{self.key}/{self.host.lower()}/{self.path.strip('/')}"

    @property
    def of_task(self) -> PortSpec:
        """What of it is a task's business: where it listens, and in host mode what it takes of its node.

        Everything else is the mesh's, and changes while the task runs.
        """
        if self.mode == "host":
            return msgspec.structs.replace(self, allow=(), sticky=False, host="", path="", tls="")
        return PortSpec(protocol=self.protocol, target=self.target)


class MountSpec(Spec, frozen=True, kw_only=True):
    """``--mount``: kind is bind, volume, tmpfs or image (``source`` is its reference then).

    ``propagation`` empty: rprivate; ``recursive`` empty: enabled; both of binds, as ``create_source``, which
    makes a missing source.  ``subpath`` is below the volume or the image.  ``labels``, ``driver`` (empty:
    local) and ``no_copy`` are of a volume that the task makes.  ``tmpfs_options``: as ``noexec``.
    """

    kind: str = "volume"
    source: str = ""
    target: str = ""
    readonly: bool = False
    tmpfs_size: int = 0
    tmpfs_mode: int = 0o1777
    propagation: str = ""
    recursive: str = ""
    create_source: bool = False
    no_copy: bool = False
    subpath: str = ""
    labels: dict[str, str] = {}
    driver: str = ""
    tmpfs_options: tuple[str, ...] = ()


class UlimitSpec(Spec, frozen=True, kw_only=True):
    """``--ulimit``: -1 is unlimited."""

    name: str = ""
    soft: int = 0
    hard: int = 0


class DeviceSpec(Spec, frozen=True, kw_only=True):
    """``--device``: a device of the node; ``target`` empty: the same path; ``permissions`` empty: rwm."""

    source: str = ""
    target: str = ""
    permissions: str = ""


class ThrottleSpec(Spec, frozen=True, kw_only=True):
    """A limit on one block device of the node: ``rate`` in bytes or operations a second."""

    device: str = ""
    rate: int = 0


class ContainerSpec(Spec, frozen=True, kw_only=True):
    """How a task's container is made.  Empty values fall back to the image's.

    ``hosts`` are lines ``ADDRESS NAME`` of its hosts file.  ``seccomp`` is empty (the default profile),
    ``unconfined`` or a profile in Docker's JSON.  ``shm_size`` 0: 64 MiB.  The modes are empty (its own) or
    ``host``; ``userns`` empty: as the node is set.  ``devices`` are checked against the node's list.
    """

    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    hostname: str = ""
    workdir: str = ""
    user: str = ""
    labels: dict[str, str] = {}
    mounts: tuple[MountSpec, ...] = ()
    stop_signal: str = ""
    stop_grace: float = 10.0
    init: bool = False
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    groups: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    tty: bool = False
    open_stdin: bool = False
    ulimits: tuple[UlimitSpec, ...] = ()
    sysctls: dict[str, str] = {}
    privileged: bool = False
    devices: tuple[DeviceSpec, ...] = ()
    device_rules: tuple[str, ...] = ()
    seccomp: str = ""
    oom_score_adj: int = 0
    shm_size: int = 0
    pid_mode: str = ""
    ipc_mode: str = ""
    uts_mode: str = ""
    cgroupns_mode: str = ""
    userns: str = ""
    domainname: str = ""
    health: HealthSpec | None = None
    readiness: ProbeSpec | None = None
    liveness: ProbeSpec | None = None


class Resources(Spec, frozen=True, kw_only=True):
    """An amount of a node: 0 = nothing asked, or no limit.

    Reservations know ``nano_cpus`` and ``memory`` only.  ``memory_swap`` is memory and swap together (-1: any
    amount of swap, 0: twice the memory); ``memory_swappiness`` 0 to 100, None: the kernel's; ``cpu_quota``
    and ``cpu_period`` are microseconds, ``cpuset_*`` lists as ``0-3,7``.
    """

    nano_cpus: int = 0
    memory: int = 0
    pids: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    memory_reservation: int = 0
    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    blkio_weight: int = 0
    read_bps: tuple[ThrottleSpec, ...] = ()
    write_bps: tuple[ThrottleSpec, ...] = ()
    read_iops: tuple[ThrottleSpec, ...] = ()
    write_iops: tuple[ThrottleSpec, ...] = ()
    oom_kill_disable: bool = False


class RestartPolicy(Spec, frozen=True, kw_only=True):
    """When a task that ended is replaced: condition none, on-failure or any."""

    condition: str = "any"
    delay: float = 5.0
    max_attempts: int = 0
    window: float = 0.0


class Placement(Spec, frozen=True, kw_only=True):
    """Where tasks may run.  ``max_replicas`` 0 = any number on one node."""

    constraints: tuple[str, ...] = ()
    max_replicas: int = 0


class TaskTemplate(Spec, frozen=True, kw_only=True):
    """Everything that makes a task what it is: a change of it replaces tasks.

    ``runtime`` names the program that runs its containers; empty: the node's default.  A task that is to stop
    first gets no new connections for ``drain_delay`` (None: 2 s), then its open ones may end for
    ``drain_timeout``.
    """

    container: ContainerSpec = ContainerSpec()
    limits: Resources = Resources()
    reservations: Resources = Resources()
    restart: RestartPolicy = RestartPolicy()
    placement: Placement = Placement()
    force_update: int = 0
    runtime: str = ""
    networks: tuple[NetworkAttachment, ...] = ()
    drain_delay: float | None = None
    drain_timeout: float = 0.0


class UpdateConfig(Spec, frozen=True, kw_only=True):
    """How tasks are replaced.  parallelism 0 = all at once; order stop-first or start-first."""

    parallelism: int = 1
    delay: float = 0.0
    failure_action: str = "pause"
    monitor: float = 5.0
    max_failure_ratio: float = 0.0
    order: str = "stop-first"


class ServiceSpec(Spec, frozen=True, kw_only=True):
    """A service as its user wrote it.  mode: replicated or global; endpoint_mode: vip (or empty) or dnsrr.

    ``ingress_source`` of what comes in by published ports: keep (containers see the client's address; empty
    is the same), masquerade (they see a node's), proxy-protocol (the client's is said in a header before).
    """

    name: str = ""
    labels: dict[str, str] = {}
    template: TaskTemplate = TaskTemplate()
    mode: str = "replicated"
    replicas: int = 1
    update: UpdateConfig = UpdateConfig()
    rollback: UpdateConfig = UpdateConfig()
    ports: tuple[PortSpec, ...] = ()
    endpoint_mode: str = ""
    ingress_source: str = ""


class NodeSpec(Spec, frozen=True, kw_only=True):
    """What users set on a node."""

    labels: dict[str, str] = {}
    role: Role = Role.WORKER
    availability: Availability = Availability.ACTIVE


class ClusterSpec(Spec, frozen=True, kw_only=True):
    """Settings of the whole swarm.  ``address_pools``: prefixes that networks without one are cut from, in
    pieces of ``subnet_size`` bits; empty and 0: 10.0.0.0/9 and 24."""

    task_history: int = 5
    heartbeat: float = 5.0
    certificate_expiry: float = 90 * 86400.0
    autolock: bool = False
    address_pools: tuple[str, ...] = ()
    subnet_size: int = 0
