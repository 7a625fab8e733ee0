"""Decide how a container is made: what its service says over what its image says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from swarmd.image.core.config import ImageConfig
from swarmd.model.errors import Invalid
from swarmd.model.expansion import Surroundings, expand
from swarmd.model.spec import ContainerSpec, MountSpec, Resources, ThrottleSpec
from swarmd.node.agent.core import health
from swarmd.node.agent.core.etc_files import files
from swarmd.node.agent.core.mounts import Source, Sources, to_mount
from swarmd.node.agent.core.record import TaskRecord
from swarmd.node.network.port import Attachment, Transport
from swarmd.node.runtime.port import ContainerConfig, Device, Limits, Throttle, Ulimit

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHM_SIZE = 64 * 1024 * 1024
_OWN = ("private", "shareable")
"""What Docker calls a namespace of the container's own."""
_TRANSPORTS: dict[str, Transport] = {"tcp": "tcp", "udp": "udp", "sctp": "sctp"}


class NodeFacts(msgspec.Struct, frozen=True):
    """What of the node shows inside containers.  ``resolv_conf``: the node's own file; ``address``: where
    others reach it."""

    node_id: str
    hostname: str
    resolv_conf: str = ""
    address: str = ""
    os: str = "linux"
    arch: str = "x86_64"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A container as it is asked for, by a task or by a user of this node alone.

    ``spec`` has no templates any more; ``mounts`` are all of them (:func:`mounts.wanted`); ``hostname`` is
    for a spec that has none; ``labels`` come after the image's; ``addresses`` are its in networks of the
    swarm.
    """

    id: str
    spec: ContainerSpec
    mounts: tuple[MountSpec, ...]
    limits: Resources = Resources()
    runtime: str = ""
    hostname: str = ""
    labels: Mapping[str, str] = {}
    addresses: tuple[str, ...] = ()


def asked(record: TaskRecord, mounts: tuple[MountSpec, ...], facts: NodeFacts) -> Asked:
    """The container of a task, whose templates were expanded."""
    return Asked(
        id=record.task_id,
        spec=record.template.container,
        mounts=mounts,
        limits=record.template.limits,
        runtime=record.template.runtime,
        hostname=facts.hostname if network_mode(record) == "host" else record.task_id[:12],
        labels=_labels(record, facts),
        addresses=tuple(address for joined in record.networks for address in joined.addresses),
    )


def config(
    it: Asked, image: ImageConfig, lower_dirs: tuple[str, ...], facts: NodeFacts, sources: Sources
) -> ContainerConfig:
    """As the runtime is told it.  Raises Invalid when neither spec nor image says what to run."""
    spec = it.spec
    hostname = facts.hostname if spec.uts_mode == "host" else spec.hostname or it.hostname
    base = ContainerConfig(
        id=it.id,
        lower_dirs=lower_dirs,
        args=_args(spec.command, spec.args, image),
        env=_env(spec.tty, image.env, (f"HOSTNAME={hostname}", *spec.env)),
        cwd=spec.workdir or image.workdir or "/",
        user=spec.user or image.user,
        hostname="" if spec.uts_mode == "host" else hostname,
        mounts=tuple(to_mount(mount, sources.get(mount.target, Source())) for mount in it.mounts),
        files=files(spec, hostname, facts.resolv_conf, it.addresses),
        limits=limits(it.limits),
        labels={**image.labels, **it.labels},
        annotations=health.annotation(spec, image.healthcheck),
        runtime=it.runtime,
        stop_signal=spec.stop_signal or image.stop_signal or "SIGTERM",
    )
    return msgspec.structs.replace(base, **_powers(spec), **_shape(spec))


def network_mode(record: TaskRecord) -> str:
    """As the runtime is told it: host or none, or empty for a network namespace on the node's network."""
    targets = {attachment.target for attachment in record.template.networks}
    return next((mode for mode in ("host", "none") if mode in targets), "")


def attachment(record: TaskRecord, pid: int, facts: NodeFacts) -> Attachment:
    """The task's place on the network, as far as it is known: without an address it is to get one."""
    template = record.template.container
    hostname = template.hostname or record.task_id[:12]
    return Attachment(
        task_id=record.task_id,
        pid=pid,
        address=record.status.address,
        address6=record.status.address6,
        published=tuple((_TRANSPORTS[port.protocol], port.target) for port in record.ports),
        networks=tuple((one.network_id, one.addresses) for one in record.networks),
        names=tuple(dict.fromkeys((record.name, hostname, record.task_id[:12]))),
        servers=template.dns,
    )


def expanded(record: TaskRecord, facts: NodeFacts) -> TaskRecord:
    """The task with the templates of its spec filled in.  Raises Invalid, naming the field."""
    where = Surroundings(
        service_id=record.service_id,
        service_name=record.service_name,
        service_labels=record.service_labels,
        node_id=facts.node_id,
        node_hostname=facts.hostname,
        node_os=facts.os,
        node_arch=facts.arch,
        task_id=record.task_id,
        task_name=record.name,
        task_slot=str(record.slot or record.node_id),
    )
    template = record.template
    spec = expand(template.container, where)
    if spec is template.container:
        return record
    return msgspec.structs.replace(record, template=msgspec.structs.replace(template, container=spec))


def tcp_targets(record: TaskRecord) -> tuple[int, ...]:
    """Target ports that must listen before the task counts as running."""
    return tuple(port.target for port in record.ports if port.protocol == "tcp")


def limits(wanted: Resources) -> Limits:
    """What a container may use at most, as the runtime is told it."""
    return Limits(
        memory=wanted.memory,
        memory_reservation=wanted.memory_reservation,
        memory_swap=wanted.memory_swap,
        swappiness=wanted.memory_swappiness,
        oom_kill_disable=wanted.oom_kill_disable,
        nano_cpus=wanted.nano_cpus,
        cpu_shares=wanted.cpu_shares,
        cpu_quota=wanted.cpu_quota,
        cpu_period=wanted.cpu_period,
        cpuset_cpus=wanted.cpuset_cpus,
        cpuset_mems=wanted.cpuset_mems,
        pids=wanted.pids,
        blkio_weight=wanted.blkio_weight,
        read_bps=_throttles(wanted.read_bps),
        write_bps=_throttles(wanted.write_bps),
        read_iops=_throttles(wanted.read_iops),
        write_iops=_throttles(wanted.write_iops),
    )


def _args(command: tuple[str, ...], args: tuple[str, ...], image: ImageConfig) -> tuple[str, ...]:
    # As in Docker: one empty word is an entrypoint that is taken away, and nothing comes in its place.
    entrypoint = () if command == ("",) else command or image.entrypoint
    # As in Docker: an entrypoint of the spec's own makes the image's default arguments void.
    arguments = args or (() if command else image.cmd)
    if not entrypoint + arguments:
        raise Invalid("no command specified: neither the service nor its image says what to run")
    return entrypoint + arguments


def _env(tty: bool, base: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    merged: dict[str, str] = {}
    for entry in (PATH, *(["TERM=xterm"] if tty else []), *base, *more):
        merged[entry.partition("=")[0]] = entry
    return tuple(merged.values())


def _powers(spec: ContainerSpec) -> dict[str, Any]:
    """What its programs may do and use, as fields of ContainerConfig."""
    return {
        "cap_add": spec.cap_add,
        "cap_drop": spec.cap_drop,
        "no_new_privileges": spec.no_new_privileges,
        "privileged": spec.privileged,
        "seccomp": spec.seccomp,
        "sysctls": spec.sysctls,
        "oom_score_adj": spec.oom_score_adj,
        "ulimits": tuple(Ulimit(one.name, one.soft, one.hard) for one in spec.ulimits),
        "devices": tuple(
            Device(one.source, one.target or one.source, one.permissions or "rwm") for one in spec.devices
        ),
        "device_rules": spec.device_rules,
        "groups": spec.groups,
    }


def _shape(spec: ContainerSpec) -> dict[str, Any]:
    """What its programs find around them, as fields of ContainerConfig."""
    return {
        "init": spec.init,
        "tty": spec.tty,
        "stdin": spec.open_stdin,
        "read_only": spec.read_only,
        "domainname": spec.domainname,
        "shm_size": spec.shm_size or SHM_SIZE,
        "pid_mode": _mode(spec.pid_mode),
        "ipc_mode": _mode(spec.ipc_mode),
        "uts_mode": _mode(spec.uts_mode),
        "cgroupns_mode": _mode(spec.cgroupns_mode),
        "userns": spec.userns,
    }


def _mode(mode: str) -> str:
    return "" if mode in _OWN else mode


def _throttles(throttles: Iterable[ThrottleSpec]) -> tuple[Throttle, ...]:
    return tuple(Throttle(one.device, one.rate) for one in throttles)


def _labels(record: TaskRecord, facts: NodeFacts) -> dict[str, str]:
    return {
        **record.template.container.labels,
        "com.docker.swarm.node.id": facts.node_id,
        "com.docker.swarm.service.id": record.service_id,
        "com.docker.swarm.service.name": record.service_name,
        "com.docker.swarm.task": "",
        "com.docker.swarm.task.id": record.task_id,
        "com.docker.swarm.task.name": record.name,
    }
