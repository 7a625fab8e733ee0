"""What may be written while managers of different versions share a swarm.  Pure.

Every replica has to understand what it applies, or the replicas differ.  So a swarm has a feature level, the
least of what its managers understand, in its cluster row; it rises when the last manager is upgraded and
never falls.  What is newer than the level is not written: what a user asked for is refused with the reason,
what the managers merely note is left out.  A transaction says which level it was written at, and a replica
that does not know that level stops before it applies it.

Level 0 is version 0.1.0; level 2 brought what a service can say about its containers,
level 3 the swarm's registry and what images must be, level 4 networks of one's own and secrets, level 5
single containers in networks, and claims of ports that exclude each other whatever address they are for
(``store.core.tables``).
What no list below names belongs to the newest level: a release that adds rows or fields after it appends a
list of this level's, and raises ``model.objects.FEATURE_LEVEL``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from swarmd.model import objects
from swarmd.model.errors import NotUnderstood, Unavailable
from swarmd.model.objects import FEATURE_LEVEL, Row

S = TypeVar("S", bound=msgspec.Struct)

KNOWN: Sequence[Mapping[str, str]] = (
    {
        "PortSpec": "protocol target published mode",
        "MountSpec": "kind source target readonly tmpfs_size tmpfs_mode",
        "ContainerSpec": (
            "image command args env hostname workdir user labels mounts stop_signal stop_grace init "
            "read_only cap_add cap_drop no_new_privileges"
        ),
        "Resources": "nano_cpus memory pids",
        "RestartPolicy": "condition delay max_attempts window",
        "Placement": "constraints max_replicas",
        "TaskTemplate": "container limits reservations restart placement force_update",
        "UpdateConfig": "parallelism delay failure_action monitor max_failure_ratio order",
        "ServiceSpec": "name labels template mode replicas update rollback ports",
        "NodeSpec": "labels role availability",
        "ClusterSpec": "task_history heartbeat certificate_expiry",
        "UpdateStatus": "state started_at completed_at message failed_tasks",
        "Service": ("id version created_at updated_at spec spec_version previous_spec ports update_status"),
        "SpecVersion": "id version created_at updated_at service_id number template ports",
        "TaskStatus": "state at message error container_id pid exit_code address",
        "Task": (
            "id version created_at updated_at service_id service_name spec_version slot node_id "
            "desired_state status start_at running_since"
        ),
        "NodeDescription": "hostname os arch nano_cpus memory engine_version labels",
        "NodeStatus": "state message address",
        "Node": ("id version created_at updated_at spec role description status number raft_address removed"),
        "Cluster": (
            "id version created_at updated_at spec root_ca ca_key worker_token manager_token gossip_key"
        ),
        "Network": "id version created_at updated_at name driver ingress subnet",
        "PortAllocation": "id version created_at updated_at service_id service_name mode",
        "RemovedNode": "id version created_at updated_at until",
    },
    {
        "ClusterSpec": "autolock",
        "NodeCertificate": "issuer trusts valid_from valid_until",
        "NodeStatus": "certificate",
        "Node": "join_key join_token",
        "CaRotation": "phase root_ca ca_key cross_signed started_at",
        "Cluster": "rotation unlock_key longest_expiry",
        "JoinToken": (
            "id version created_at updated_at secret_hash role labels availability description expires_at "
            "max_uses uses"
        ),
    },
    {
        "MountSpec": "propagation recursive create_source no_copy subpath labels driver tmpfs_options",
        "UlimitSpec": "name soft hard",
        "DeviceSpec": "source target permissions",
        "ThrottleSpec": "device rate",
        "ContainerSpec": (
            "groups hosts dns dns_search dns_options tty open_stdin ulimits sysctls privileged "
            "devices device_rules seccomp oom_score_adj shm_size pid_mode ipc_mode uts_mode "
            "cgroupns_mode userns domainname health readiness liveness"
        ),
        "Resources": (
            "memory_swap memory_swappiness memory_reservation cpu_shares cpu_quota cpu_period "
            "cpuset_cpus cpuset_mems blkio_weight read_bps write_bps read_iops write_iops "
            "oom_kill_disable"
        ),
        "HealthSpec": "test interval timeout retries start_period start_interval",
        "ProbeSpec": (
            "kind command port path scheme headers status interval timeout delay failures successes"
        ),
        "TaskTemplate": "runtime",
        "TaskStatus": "health unready",
        "NodeDescription": "runtimes devices",
        "GossipChange": "phase key at",
        "Cluster": "gossip_change gossip_removed",
    },
    {
        "RegistryManifest": (
            "id version created_at updated_at repository digest media_type data blobs subject artifact_type "
            "annotations tagged_at"
        ),
        "RegistryTag": "id version created_at updated_at repository tag digest",
        "RegistryCredential": "id version created_at updated_at username password identity_token",
        "TrustKey": "id version created_at updated_at pem added_by",
        "TrustRule": ("id version created_at updated_at action keys threshold max_severity max_scan_age"),
        "ImageScan": "id version created_at updated_at image scanned_at advisories counts",
    },
    {
        "ServiceSpec": "endpoint_mode ingress_source",
        "TaskTemplate": "networks drain_delay drain_timeout",
        "PortSpec": "published_end host_ip allow sticky host path tls",
        "NetworkAttachment": "target aliases vip addresses options",
        "Service": "vips",
        "VirtualIp": "network_id addresses",
        "Task": "networks",
        "TaskNetwork": "network_id addresses",
        "TaskStatus": "address6",
        "ClusterSpec": "address_pools subnet_size",
        "Network": "spec subnets",
        "NetworkSpec": "name labels driver attachable internal encrypted ipv6 subnets options",
        "SubnetSpec": "subnet gateway ip_range reserved",
        "AddressAllocation": "id version created_at updated_at network_id address owner_kind owner_id",
        "Secret": "id version created_at updated_at name labels data",
    },
)
"""For each level but the newest: kind → the fields it brought."""

_ABOUT_LEVELS = {("Cluster", "feature_level"), ("NodeDescription", "feature_level")}
"""Written at any level: a manager that does not know them loses them, and nothing with them."""

_NOTED = {"Node", "NodeDescription", "NodeStatus", "Task", "TaskStatus", "UpdateStatus"}
"""Kinds whose newer fields managers note for themselves; all others hold what a user asked for."""


def check_readable(written_at: int, understood: int) -> None:
    """Raises NotUnderstood for what a newer version wrote."""
    if written_at > understood:
        raise NotUnderstood(
            f"The managers have agreed on feature level {written_at}, and this version of swarmd understands "
            f"{understood}. Upgrade this manager to the version the others run."
        )


def fit(row: Row, level: int) -> Row:
    """``row`` as a manager of ``level`` understands it.

    Raises Unavailable, naming the field, when a user asked for something newer.
    """
    if level >= FEATURE_LEVEL:
        return row
    if not any(type(row).__name__ in known for known in KNOWN[: level + 1]):
        raise _too_new(f"a {type(row).__name__}", _brought(type(row).__name__, "id"), level)
    return _fit(row, level)


def needed(row: Row) -> int:
    """The least level that understands everything in ``row``."""
    return next((level for level in range(FEATURE_LEVEL) if _understands(level, row)), FEATURE_LEVEL)


def _understands(level: int, row: Row) -> bool:
    try:
        return fit(row, level) == row
    except Unavailable:
        return False


def _fit(struct: S, level: int) -> S:
    kind = type(struct).__name__
    known = {name for fields in KNOWN[: level + 1] for name in fields.get(kind, "").split()}
    changes: dict[str, object] = {}
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if field.name in known:
            fitting = _fit_value(value, level)
            if fitting is not value:
                changes[field.name] = fitting
        elif (kind, field.name) not in _ABOUT_LEVELS and value != _default(field):
            if kind not in _NOTED:
                raise _too_new(f"{field.name} of a {kind}", _brought(kind, field.name), level)
            changes[field.name] = _default(field)
    return msgspec.structs.replace(struct, **changes) if changes else struct


def _fit_value(value: object, level: int) -> object:
    if isinstance(value, msgspec.Struct):
        return _fit(value, level)
    if isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct):
        fitting = tuple(_fit(one, level) for one in value)
        return value if all(one is was for one, was in zip(fitting, value, strict=True)) else fitting
    return value


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _brought(kind: str, field: str) -> int:
    """The level that brought a field."""
    levels = (level for level, known in enumerate(KNOWN) if field in known.get(kind, "").split())
    return next(levels, FEATURE_LEVEL)


def _too_new(what: str, brought: int, level: int) -> Unavailable:
    return Unavailable(
        f"{what} needs managers of feature level {brought}, and this swarm is at level {level}: "
        "upgrade every manager (`swarmctl node ls` shows their versions), then try again"
    )


def next_level(present: int, managers: Sequence[objects.Node]) -> int:
    """The level a swarm can rise to: what all ``managers`` said they understand, at least ``present``."""
    said = [node.description.feature_level for node in managers]
    return max(present, min([*said, FEATURE_LEVEL])) if said else present
