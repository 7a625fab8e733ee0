"""Decide whether a service spec can be accepted.  A refusal names the field, the value and the way out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable

from swarmd.control.core.probes import probes
from swarmd.model import constraint, image_ref
from swarmd.model.errors import Invalid
from swarmd.model.spec import (
    ContainerSpec,
    MountSpec,
    PortSpec,
    Resources,
    RestartPolicy,
    ServiceSpec,
    UpdateConfig,
)

# One letter or digit a round: a name that does not fit is refused in one pass, not in 2^length.
_NAME = re.compile(r"[a-zA-Z0-9](?:[-_]*[A-Za-z0-9])*")
_MAX_IMAGE = 512
_MAX_REPLICAS = 100_000
_MAX_SECONDS = 100 * 365 * 86400.0
_MAX_MODE = 0o7777
_MIN_MEMORY = 4 * 1024 * 1024
_MIN_NANO_CPUS = 1_000_000
_MAX_PORT = 65535


def service(spec: ServiceSpec) -> None:
    """Raises Invalid with the first thing that is wrong."""
    _name(spec.name)
    if spec.mode not in ("replicated", "global"):
        raise Invalid(f'mode "{spec.mode}" is not known: use replicated or global')
    if not 0 <= spec.replicas <= _MAX_REPLICAS:
        raise Invalid(f"replicas must be between 0 and {_MAX_REPLICAS}, not {spec.replicas}")
    _container(spec.template.container)
    _resources("limit", spec.template.limits)
    _resources("reservation", spec.template.reservations)
    _restart(spec.template.restart)
    most = spec.template.placement.max_replicas
    if most < 0:
        raise Invalid(f"replicas-max-per-node must be 0 (any number) or more, not {most}")
    for text in spec.template.placement.constraints:
        constraint.parse(text)
    _update("update", spec.update, ("pause", "continue", "rollback"))
    _update("rollback", spec.rollback, ("pause", "continue"))
    ports(spec.ports)


def change(old: ServiceSpec, new: ServiceSpec) -> None:
    """What may never change between two versions of a service."""
    if old.name != new.name:
        raise Invalid(f'renaming services is not supported: "{old.name}" cannot become "{new.name}"')
    if old.mode != new.mode:
        raise Invalid(f"service mode change is not allowed: {old.mode} cannot become {new.mode}")


def ports(specs: tuple[PortSpec, ...]) -> None:
    """Each port on its own, and all of them together."""
    seen: set[str] = set()
    for port in specs:
        if port.protocol not in ("tcp", "udp"):
            raise Invalid(f'port protocol "{port.protocol}" is not supported: use tcp or udp')
        if port.mode not in ("ingress", "host"):
            raise Invalid(f'port mode "{port.mode}" is not known: use ingress or host')
        if port.mode == "host" and not port.published:
            raise Invalid(
                f"target port {port.target} is published in host mode without a port: "
                "write mode=host,published=PORT,target=PORT"
            )
        if not 1 <= port.target <= _MAX_PORT:
            raise Invalid(f"invalid target port {port.target}: it must be between 1 and {_MAX_PORT}")
        if not 0 <= port.published <= _MAX_PORT:
            raise Invalid(f"invalid published port {port.published}: it must be between 1 and {_MAX_PORT}")
        if port.published and port.key in seen:
            raise Invalid(f"port {port.published}/{port.protocol} is published twice by this service")
        seen.add(port.key)


def seconds(what: str, value: float) -> None:
    """A duration that clocks can keep: a number, not negative, not beyond a hundred years."""
    if not (math.isfinite(value) and 0 <= value <= _MAX_SECONDS):
        raise Invalid(f"{what} must be between 0s and {_MAX_SECONDS:.0f}s, not {value:g}s")


def _texts(spec: ContainerSpec) -> None:
    """No process can be given a text with a zero byte in it."""
    single = {"hostname": spec.hostname, "workdir": spec.workdir, "user": spec.user}
    several = {"command": spec.command, "args": spec.args, "env": spec.env}
    paths = {"mount": tuple(part for mount in spec.mounts for part in (mount.source, mount.target))}
    for what, values in {**{key: (text,) for key, text in single.items()}, **several, **paths}.items():
        for text in values:
            if "\0" in text:
                raise Invalid(f"{what} {text!r} contains a zero byte: remove it")


def _name(name: str) -> None:
    if not name:
        raise Invalid("name: a service needs one")
    if len(name) > 63:
        raise Invalid(f"name must be 63 characters or fewer, not {len(name)}")
    if not _NAME.fullmatch(name):
        raise Invalid(f'name must be valid as a DNS name component: "{name}" is not')


def _container(spec: ContainerSpec) -> None:
    if not spec.image:
        raise Invalid("ContainerSpec: image reference must be provided")
    if len(spec.image) > _MAX_IMAGE:
        raise Invalid(f"ContainerSpec: image must be {_MAX_IMAGE} characters or fewer, not {len(spec.image)}")
    try:
        image_ref.parse(spec.image)
    except Invalid as error:
        raise Invalid(f'ContainerSpec: "{spec.image}" is not a valid repository/tag') from error
    seconds("stop-grace-period", spec.stop_grace)
    probes(spec)
    _texts(spec)
    for entry in spec.env:
        if not entry.partition("=")[0]:
            raise Invalid(f'env "{entry}" has no name: write NAME=value')
    targets: set[str] = set()
    for mount in spec.mounts:
        _mount(mount)
        if mount.target in targets:
            raise Invalid(f"ContainerSpec: duplicate mount point: {mount.target}")
        targets.add(mount.target)


def _mount(mount: MountSpec) -> None:
    if mount.kind not in ("bind", "volume", "tmpfs"):
        raise Invalid(f'mount type "{mount.kind}" is not supported: use bind, volume or tmpfs')
    if not mount.target.startswith("/"):
        raise Invalid(f'invalid mount target, must be an absolute path: "{mount.target}"')
    if mount.kind == "bind" and not mount.source.startswith("/"):
        raise Invalid(f'invalid bind mount source, must be an absolute path: "{mount.source}"')
    if mount.kind == "tmpfs" and mount.source:
        raise Invalid(f'a tmpfs mount has no source, not even "{mount.source}"')
    if mount.tmpfs_size < 0:
        raise Invalid(f"tmpfs-size must be 0 (no limit) or more, not {mount.tmpfs_size}")
    if not 0 <= mount.tmpfs_mode <= _MAX_MODE:
        raise Invalid(f"tmpfs-mode must be between 0 and 7777 (octal), not {mount.tmpfs_mode:o}")


def _resources(what: str, amount: Resources) -> None:
    if amount.nano_cpus and amount.nano_cpus < _MIN_NANO_CPUS:
        raise Invalid(f"invalid cpu {what}: Must be at least 0.001, not {amount.nano_cpus / 1e9:g}")
    if amount.memory and amount.memory < _MIN_MEMORY:
        raise Invalid(f"invalid memory {what}: Must be at least 4MiB, not {amount.memory} bytes")
    if amount.pids < 0:
        raise Invalid(f"invalid pids {what}: it must be 0 (no limit) or more, not {amount.pids}")


def _restart(policy: RestartPolicy) -> None:
    if policy.condition not in ("none", "on-failure", "any"):
        raise Invalid(f'restart condition "{policy.condition}" is not known: use none, on-failure or any')
    seconds("restart delay", policy.delay)
    seconds("restart window", policy.window)
    if policy.max_attempts < 0:
        raise Invalid(f"restart max-attempts must be 0 (no limit) or more, not {policy.max_attempts}")


def _update(what: str, config: UpdateConfig, actions: tuple[str, ...]) -> None:
    if config.failure_action not in actions:
        raise Invalid(f'{what} failure action "{config.failure_action}" is not one of {", ".join(actions)}')
    if config.order not in ("stop-first", "start-first"):
        raise Invalid(f'{what} order "{config.order}" is not known: use stop-first or start-first')
    if config.parallelism < 0:
        raise Invalid(f"{what} parallelism must be 0 (all at once) or more, not {config.parallelism}")
    seconds(f"{what} delay", config.delay)
    seconds(f"{what} monitor", config.monitor)
    if not 0 <= config.max_failure_ratio <= 1:
        raise Invalid(f"{what} max-failure-ratio must be between 0 and 1, not {config.max_failure_ratio}")


def unique_prefix(ref: str, ids: Iterable[str], ambiguous: Callable[[], Exception]) -> str | None:
    """The one id that starts with ``ref``; None when there is none."""
    matches = [one for one in ids if ref and one.startswith(ref)]
    if len(matches) > 1:
        raise ambiguous()
    return matches[0] if matches else None
