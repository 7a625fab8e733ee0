"""What users ask for.  Durations are seconds, sizes bytes, CPUs nano-CPUs (10^9 = one core).

Defaults are Docker Swarm's.  ``types.proto`` mirrors these structs field by field.
"""

from __future__ import annotations

import msgspec

from swarmd.model.states import Availability, Role


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every spec: immutable, compared by value."""


class PortSpec(Spec, frozen=True, kw_only=True):
    """``--publish``: ``published`` 0 asks the allocator for a free one (30000-32767)."""

    protocol: str = "tcp"
    target: int = 0
    published: int = 0
    mode: str = "ingress"

    @property
    def key(self) -> str:
        """Identity of the published side, as an allocation row knows it."""
        return f"{self.protocol}/{self.published}"


class MountSpec(Spec, frozen=True, kw_only=True):
    """``--mount``: kind is bind, volume or tmpfs."""

    kind: str = "volume"
    source: str = ""
    target: str = ""
    readonly: bool = False
    tmpfs_size: int = 0
    tmpfs_mode: int = 0o1777


class ContainerSpec(Spec, frozen=True, kw_only=True):
    """How a task's container is made.  Empty values fall back to the image's."""

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


class Resources(Spec, frozen=True, kw_only=True):
    """An amount of a node: 0 = nothing asked, or no limit."""

    nano_cpus: int = 0
    memory: int = 0
    pids: int = 0


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
    """Everything that makes a task what it is: a change of it replaces tasks."""

    container: ContainerSpec = ContainerSpec()
    limits: Resources = Resources()
    reservations: Resources = Resources()
    restart: RestartPolicy = RestartPolicy()
    placement: Placement = Placement()
    force_update: int = 0


class UpdateConfig(Spec, frozen=True, kw_only=True):
    """How tasks are replaced.  parallelism 0 = all at once; order stop-first or start-first."""

    parallelism: int = 1
    delay: float = 0.0
    failure_action: str = "pause"
    monitor: float = 5.0
    max_failure_ratio: float = 0.0
    order: str = "stop-first"


class ServiceSpec(Spec, frozen=True, kw_only=True):
    """A service as its user wrote it.  mode: replicated or global."""

    name: str = ""
    labels: dict[str, str] = {}
    template: TaskTemplate = TaskTemplate()
    mode: str = "replicated"
    replicas: int = 1
    update: UpdateConfig = UpdateConfig()
    rollback: UpdateConfig = UpdateConfig()
    ports: tuple[PortSpec, ...] = ()


class NodeSpec(Spec, frozen=True, kw_only=True):
    """What users set on a node."""

    labels: dict[str, str] = {}
    role: Role = Role.WORKER
    availability: Availability = Availability.ACTIVE


class ClusterSpec(Spec, frozen=True, kw_only=True):
    """Settings of the whole swarm."""

    task_history: int = 5
    heartbeat: float = 5.0
    certificate_expiry: float = 90 * 86400.0
    autolock: bool = False
