"""Decide whether a service spec can be accepted.  A refusal names the field, the value and the way out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

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

_NAME = re.compile(r"[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*")
_MIN_MEMORY = 4 * 1024 * 1024
_MIN_NANO_CPUS = 1_000_000
_MAX_PORT = 65535


def service(spec: ServiceSpec) -> None:
    """Raises Invalid with the first thing that is wrong."""
    _name(spec.name)
    if spec.mode not in ("replicated", "global"):
        raise Invalid(f'mode "{spec.mode}" is not known: use replicated or global')
    if spec.replicas < 0:
        raise Invalid(f"replicas must be 0 or more, not {spec.replicas}")
    _container(spec.template.container)
    _resources("limit", spec.template.limits)
    _resources("reservation", spec.template.reservations)
    _restart(spec.template.restart)
    if spec.template.placement.max_replicas < 0:
        raise Invalid("replicas-max-per-node must be 0 (any number) or more")
    for text in spec.template.placement.constraints:
        constraint.parse(text)
    _update("update", spec.update, ("pause", "continue", "rollback"))
    _update("rollback", spec.rollback, ("pause", "continue"))
    ports(spec.ports)


def change(old: ServiceSpec, new: ServiceSpec) -> None:
    """What may never change between two versions of a service."""
    if old.name != new.name:
        raise Invalid("renaming services is not supported")
    if old.mode != new.mode:
        raise Invalid("service mode change is not allowed")


def ports(specs: tuple[PortSpec, ...]) -> None:
    """Each port on its own, and all of them together."""
    seen: set[str] = set()
    for port in specs:
        if port.protocol not in ("tcp", "udp"):
            raise Invalid(f'port protocol "{port.protocol}" is not supported: use tcp or udp')
        if port.mode not in ("ingress", "host"):
            raise Invalid(f'port mode "{port.mode}" is not known: use ingress or host')
        if not 1 <= port.target <= _MAX_PORT:
            raise Invalid(f"invalid target port {port.target}: it must be between 1 and {_MAX_PORT}")
        if not 0 <= port.published <= _MAX_PORT:
            raise Invalid(f"invalid published port {port.published}: it must be between 1 and {_MAX_PORT}")
        if port.published and port.key in seen:
            raise Invalid(f"port {port.published}/{port.protocol} is published twice by this service")
        seen.add(port.key)


def _name(name: str) -> None:
    if not name:
        raise Invalid("name: a service needs one")
    if len(name) > 63:
        raise Invalid("name must be 63 characters or fewer")
    if not _NAME.fullmatch(name):
        raise Invalid("name must be valid as a DNS name component")


def _container(spec: ContainerSpec) -> None:
    if not spec.image:
        raise Invalid("ContainerSpec: image reference must be provided")
    try:
        image_ref.parse(spec.image)
    except Invalid as error:
        raise Invalid(f'ContainerSpec: "{spec.image}" is not a valid repository/tag') from error
    if spec.stop_grace < 0:
        raise Invalid(f"stop-grace-period must not be negative, not {spec.stop_grace}s")
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
        raise Invalid("a tmpfs mount has no source")


def _resources(what: str, amount: Resources) -> None:
    if amount.nano_cpus and amount.nano_cpus < _MIN_NANO_CPUS:
        raise Invalid(f"invalid cpu {what}: Must be at least 0.001")
    if amount.memory and amount.memory < _MIN_MEMORY:
        raise Invalid(f"invalid memory {what}: Must be at least 4MiB")
    if amount.pids < 0:
        raise Invalid(f"invalid pids {what}: it must be 0 (no limit) or more")


def _restart(policy: RestartPolicy) -> None:
    if policy.condition not in ("none", "on-failure", "any"):
        raise Invalid(f'restart condition "{policy.condition}" is not known: use none, on-failure or any')
    if policy.delay < 0 or policy.window < 0 or policy.max_attempts < 0:
        raise Invalid("restart delay, window and max-attempts must not be negative")


def _update(what: str, config: UpdateConfig, actions: tuple[str, ...]) -> None:
    if config.failure_action not in actions:
        raise Invalid(f'{what} failure action "{config.failure_action}" is not one of {", ".join(actions)}')
    if config.order not in ("stop-first", "start-first"):
        raise Invalid(f'{what} order "{config.order}" is not known: use stop-first or start-first')
    if config.parallelism < 0 or config.delay < 0 or config.monitor < 0:
        raise Invalid(f"{what} parallelism, delay and monitor must not be negative")
    if not 0 <= config.max_failure_ratio <= 1:
        raise Invalid(f"{what} max-failure-ratio must be between 0 and 1, not {config.max_failure_ratio}")


def unique_prefix(ref: str, ids: Iterable[str], ambiguous: Callable[[], Exception]) -> str | None:
    """The one id that starts with ``ref``; None when there is none."""
    matches = [one for one in ids if ref and one.startswith(ref)]
    if len(matches) > 1:
        raise ambiguous()
    return matches[0] if matches else None
