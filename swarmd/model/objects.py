"""What the loops write and nodes report: the rows of the replicated store.

Each field has one writer: ``spec`` the user, ``desired_state`` the orchestrator side, ``status`` the node.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from swarmd.model.network import NetworkSpec, SubnetSpec, TaskNetwork, VirtualIp
from swarmd.model.spec import ClusterSpec, NodeSpec, PortSpec, ServiceSpec, TaskTemplate
from swarmd.model.states import Availability, NodeState, Role, RotationPhase, TaskState, UpdateState

FEATURE_LEVEL = 5
"""What this version understands of replicated state; ``store.core.levels`` says which level brought what."""

R = TypeVar("R", bound="Row")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One object of the store.  ``version``: index of the transaction that wrote it; 0 = not yet stored."""

    id: str
    version: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0


class UpdateStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of an update, kept in the row so that a new leader knows it."""

    state: UpdateState
    started_at: float = 0.0
    completed_at: float = 0.0
    message: str = ""
    failed_tasks: tuple[str, ...] = ()


class Service(Row, frozen=True, kw_only=True):
    """A service.  ``spec_version`` names the :class:`SpecVersion` that new tasks are made from.

    ``ports`` and ``vips`` are the allocator's: what was asked for, with the numbers and addresses it got.
    """

    spec: ServiceSpec
    spec_version: int = 1
    previous_spec: ServiceSpec | None = None
    ports: tuple[PortSpec, ...] = ()
    update_status: UpdateStatus | None = None
    vips: tuple[VirtualIp, ...] = ()


class SpecVersion(Row, frozen=True, kw_only=True):
    """One version of a service's task template (id = ``service id.version``); tasks refer to it."""

    service_id: str
    number: int
    template: TaskTemplate
    ports: tuple[PortSpec, ...] = ()


def spec_version_id(service_id: str, number: int) -> str:
    """The id of a spec version's row."""
    return f"{service_id}.{number}"


class TaskStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What was last seen of a task.  ``exit_code`` -1 = none; ``error`` is shown to users as it is.

    ``health`` is "" without a health check, else starting, healthy or unhealthy; ``unready``: it runs, and is
    to get no requests for now.  ``address`` and ``address6`` are those of its node's block.
    """

    state: TaskState = TaskState.NEW
    at: float = 0.0
    message: str = ""
    error: str = ""
    container_id: str = ""
    pid: int = 0
    exit_code: int = -1
    address: str = ""
    health: str = ""
    unready: bool = False
    address6: str = ""


class Task(Row, frozen=True, kw_only=True):
    """One run of a service in a slot.  A restart is a new task.

    ``start_at``: a replacement waits in READY until then (restart delay).  ``running_since``: when an
    update saw it running first, by the leader's clock; 0 = not yet, or no update looked.
    """

    service_id: str
    service_name: str
    spec_version: int
    slot: int = 0
    node_id: str = ""
    desired_state: TaskState = TaskState.RUNNING
    status: TaskStatus = TaskStatus()
    start_at: float = 0.0
    running_since: float = 0.0
    networks: tuple[TaskNetwork, ...] = ()

    @property
    def name(self) -> str:
        """``service.slot``, or ``service.node`` for a global task: what tables show."""
        return f"{self.service_name}.{self.slot or self.node_id}"

    @property
    def state(self) -> TaskState:
        return self.status.state

    @property
    def is_live(self) -> bool:
        """It runs, or will: neither ended nor told to end."""
        return self.desired_state <= TaskState.RUNNING and not self.state.is_terminal


EVERY_DEVICE = "*"
"""What a node says that gives containers every device it has."""


class NodeDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself.

    ``runtimes`` are those it can run containers with, ``devices`` the paths of those it gives to them (``*``:
    all); a node that says none has ``local`` only, and gives none.  ``feature_level``: what its version
    understands of replicated state.
    """

    hostname: str = ""
    os: str = "linux"
    arch: str = "x86_64"
    nano_cpus: int = 0
    memory: int = 0
    engine_version: str = ""
    labels: dict[str, str] = {}
    feature_level: int = 0
    runtimes: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


class NodeCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of its certificate.  ``issuer``: identifier of the root's key that signed it,
    hexadecimal; ``trusts``: digests of the roots it trusts; times are seconds since 1970."""

    issuer: str = ""
    trusts: tuple[str, ...] = ()
    valid_from: float = 0.0
    valid_until: float = 0.0


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the managers see of a node.  ``address``: the IP the others reach it by."""

    state: NodeState = NodeState.UNKNOWN
    message: str = ""
    address: str = ""
    certificate: NodeCertificate = NodeCertificate()


class Node(Row, frozen=True, kw_only=True):
    """A machine of the swarm.  ``number`` gives its address block: 10.128.0.0 + number * 256.

    ``join_key``: digest of the key it asked to join with, by which a repeated join is known.  ``join_token``:
    id of the token it joined with; empty for the swarm's two standing ones.
    """

    spec: NodeSpec = NodeSpec()
    role: Role = Role.WORKER
    description: NodeDescription = NodeDescription()
    status: NodeStatus = NodeStatus()
    number: int = 0
    raft_address: str = ""
    removed: bool = False
    join_key: str = ""
    join_token: str = ""


class CaRotation(msgspec.Struct, frozen=True, kw_only=True):
    """The way to another root certificate, kept in the row so that any leader goes on with it.

    ``root_ca`` and ``ca_key``: the new root; ``cross_signed``: its key certified by the present root.
    """

    phase: RotationPhase = RotationPhase.TRUST
    root_ca: bytes = b""
    ca_key: bytes = b""
    cross_signed: bytes = b""
    started_at: float = 0.0


class GossipChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the gossip key under way since ``at`` (seconds since 1970).

    ``phase`` spread: nodes learn to accept ``key``, which nobody uses yet; retire: it is the one of before,
    still accepted from those who have not heard.
    """

    phase: str
    key: bytes = b""
    at: float = 0.0


class Cluster(Row, frozen=True, kw_only=True):
    """The swarm itself: identity, tokens, keys.

    ``unlock_key``: of managers, while they are locked.  ``longest_expiry``: no certificate lives longer,
    seconds; one that was issued keeps its life when the setting is lowered.
    ``gossip_removed``: the version of the newest ``RemovedNode`` that does not know the newest gossip key.
    ``feature_level``: what all its managers understand, see ``store.core.levels``; of a row of 0.1.0 it is 0.
    """

    spec: ClusterSpec = ClusterSpec()
    root_ca: bytes = b""
    ca_key: bytes = b""
    worker_token: str = ""
    manager_token: str = ""
    gossip_key: bytes = b""
    rotation: CaRotation | None = None
    unlock_key: bytes = b""
    longest_expiry: float = 0.0
    gossip_change: GossipChange | None = None
    gossip_removed: int = 0
    feature_level: int = FEATURE_LEVEL


class Network(Row, frozen=True, kw_only=True):
    """A network of the swarm.  ``ingress``: the one that carries published ports; ``subnet`` is its prefix.

    ``subnets``: the prefixes of any other, as they were given to it.
    """

    name: str
    driver: str = "overlay"
    ingress: bool = False
    subnet: str = ""
    spec: NetworkSpec = NetworkSpec()
    subnets: tuple[SubnetSpec, ...] = ()


class AddressAllocation(Row, frozen=True, kw_only=True):
    """An address of a network that is taken (id = ``network id/address``): nobody else can have it.

    ``owner_kind`` is task, service or container, ``owner_id`` its id.
    """

    network_id: str
    address: str
    owner_kind: str
    owner_id: str


class Secret(Row, frozen=True, kw_only=True):
    """What nobody but who needs it may see.  ``data`` is never shown."""

    name: str
    labels: dict[str, str] = {}
    data: bytes = b""


class PortAllocation(Row, frozen=True, kw_only=True):
    """A published port taken by a service (id = ``tcp/80``): two services cannot both create it."""

    service_id: str
    service_name: str
    mode: str = "ingress"


class RemovedNode(Row, frozen=True, kw_only=True):
    """A node that was removed: its certificate is refused until it has expired."""

    until: float = 0.0


class JoinToken(Row, frozen=True, kw_only=True):
    """A token made for some nodes: what it gives them, how long and how often.  The secret is not kept.

    ``secret_hash``: of the secret, by ``security.tokens``.  ``labels`` and ``availability`` are for the spec
    of each node.  ``expires_at``: seconds since 1970, 0 = never.  ``max_uses``: 0 = any number.
    """

    secret_hash: str
    role: Role = Role.WORKER
    labels: dict[str, str] = {}
    availability: Availability = Availability.ACTIVE
    description: str = ""
    expires_at: float = 0.0
    max_uses: int = 0
    uses: int = 0

    def is_expired(self, now: float) -> bool:
        return 0 < self.expires_at <= now

    @property
    def is_used_up(self) -> bool:
        return 0 < self.max_uses <= self.uses
