"""Decide how a task's container is made: the spec over the image's own settings."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from swarmd.image.core.config import ImageConfig
from swarmd.model.errors import Invalid
from swarmd.model.spec import MountSpec, Resources
from swarmd.node.agent.core import health
from swarmd.node.agent.core.record import TaskRecord
from swarmd.node.runtime.port import ContainerConfig, Files, Limits, Mount

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
127.0.1.1\t{hostname}
"""


class NodeFacts(msgspec.Struct, frozen=True):
    """What of the node shows inside containers.  ``resolv_conf``: the node's own file."""

    node_id: str
    hostname: str
    resolv_conf: str = ""


def config(
    record: TaskRecord,
    image: ImageConfig,
    lower_dirs: tuple[str, ...],
    facts: NodeFacts,
    volume_path: Callable[[MountSpec], str],
) -> ContainerConfig:
    """The container of a task.  Raises Invalid when neither spec nor image says what to run."""
    spec = record.template.container
    hostname = spec.hostname or record.task_id[:12]
    return ContainerConfig(
        id=record.task_id,
        lower_dirs=lower_dirs,
        args=_args(spec.command, spec.args, image),
        env=_env(image.env, (f"HOSTNAME={hostname}", *spec.env)),
        cwd=spec.workdir or image.workdir or "/",
        user=spec.user or image.user,
        hostname=hostname,
        mounts=tuple(_mount(mount, volume_path) for mount in spec.mounts),
        files=Files(
            hosts=_HOSTS.format(hostname=hostname),
            hostname=f"{hostname}\n",
            resolv_conf=resolv_conf(facts.resolv_conf),
        ),
        limits=_limits(record.template.limits),
        cap_add=spec.cap_add,
        cap_drop=spec.cap_drop,
        no_new_privileges=spec.no_new_privileges,
        read_only=spec.read_only,
        init=spec.init,
        stop_signal=spec.stop_signal or image.stop_signal or "SIGTERM",
        labels=_labels(record, facts, image),
        annotations=health.annotation(spec, image.healthcheck),
    )


def resolv_conf(host: str) -> str:
    """The node's resolver settings without name servers that only the node itself can reach."""
    kept = [line for line in host.splitlines() if not _is_local_resolver(line)]
    return "\n".join([*kept, ""])


def bind_sources(record: TaskRecord) -> tuple[str, ...]:
    """Host paths that must exist before the container is made."""
    return tuple(mount.source for mount in record.template.container.mounts if mount.kind == "bind")


def tcp_targets(record: TaskRecord) -> tuple[int, ...]:
    """Target ports that must listen before the task counts as running."""
    return tuple(port.target for port in record.ports if port.protocol == "tcp")


def _args(command: tuple[str, ...], args: tuple[str, ...], image: ImageConfig) -> tuple[str, ...]:
    entrypoint = command or image.entrypoint
    # As in Docker: an entrypoint of the spec's own makes the image's default arguments void.
    arguments = args or (() if command else image.cmd)
    if not entrypoint + arguments:
        raise Invalid("no command specified: neither the service nor its image says what to run")
    return entrypoint + arguments


def _env(base: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    merged: dict[str, str] = {}
    for entry in (PATH, *base, *more):
        merged[entry.partition("=")[0]] = entry
    return tuple(merged.values())


def _limits(wanted: Resources) -> Limits:
    return Limits(memory=wanted.memory, nano_cpus=wanted.nano_cpus, pids=wanted.pids)


def _mount(mount: MountSpec, volume_path: Callable[[MountSpec], str]) -> Mount:
    if mount.kind == "tmpfs":
        return Mount(
            target=mount.target,
            kind="tmpfs",
            readonly=mount.readonly,
            size=mount.tmpfs_size,
            mode=mount.tmpfs_mode,
        )
    source = mount.source if mount.kind == "bind" else volume_path(mount)
    return Mount(target=mount.target, source=source, kind="bind", readonly=mount.readonly)


def _labels(record: TaskRecord, facts: NodeFacts, image: ImageConfig) -> dict[str, str]:
    return {
        **image.labels,
        **record.template.container.labels,
        "com.docker.swarm.node.id": facts.node_id,
        "com.docker.swarm.service.id": record.service_id,
        "com.docker.swarm.service.name": record.service_name,
        "com.docker.swarm.task": "",
        "com.docker.swarm.task.id": record.task_id,
        "com.docker.swarm.task.name": record.name,
    }


def _is_local_resolver(line: str) -> bool:
    words = line.split()
    return len(words) > 1 and words[0] == "nameserver" and words[1].startswith(("127.", "::1"))
