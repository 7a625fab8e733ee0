"""Decide whether a service spec can be accepted.  A refusal names the field, the value and the way out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable

from swarmd.control.core import (
    routes,
    validate_container,
    validate_mounts,
    validate_ports,
    validate_resources,
)
from swarmd.model import constraint, image_ref
from swarmd.model.errors import Invalid
from swarmd.model.expansion import expand, sample
from swarmd.model.spec import (
    ContainerSpec,
    PortSpec,
    RestartPolicy,
    ServiceSpec,
    UpdateConfig,
)

# One letter or digit a round: a name that does not fit is refused in one pass, not in 2^length.
_NAME = re.compile(r"[a-zA-Z0-9](?:[-_]*[A-Za-z0-9])*")
_MAX_IMAGE = 512
_MAX_REPLICAS = 100_000
_MAX_SECONDS = 100 * 365 * 86400.0
_MAX_PORT = 65535


def service(spec: ServiceSpec) -> None:
    """Raises Invalid with the first thing that is wrong."""
    name(spec.name)
    if spec.mode not in ("replicated", "global"):
        raise Invalid(f'mode "{spec.mode}" is not known: use replicated or global')
    if not 0 <= spec.replicas <= _MAX_REPLICAS:
        raise Invalid(f"replicas must be between 0 and {_MAX_REPLICAS}, not {spec.replicas}")
    # What nodes will make of its templates, with sample values for what only they know.
    _container(expand(spec.template.container, sample(spec.name, spec.labels)), runtime=spec.template.runtime)
    validate_resources.limits(spec.template.limits)
    validate_resources.reservations(spec.template.reservations)
    _restart(spec.template.restart)
    most = spec.template.placement.max_replicas
    if most < 0:
        raise Invalid(f"replicas-max-per-node must be 0 (any number) or more, not {most}")
    for text in spec.template.placement.constraints:
        constraint.parse(text)
    _update("update", spec.update, ("pause", "continue", "rollback"))
    _update("rollback", spec.rollback, ("pause", "continue"))
    ports(spec.ports)
    validate_ports.source(spec)


def change(old: ServiceSpec, new: ServiceSpec) -> None:
    """What may never change between two versions of a service."""
    if old.name != new.name:
        raise Invalid(f'renaming services is not supported: "{old.name}" cannot become "{new.name}"')
    if old.mode != new.mode:
        raise Invalid(f"service mode change is not allowed: {old.mode} cannot become {new.mode}")


def ports(specs: tuple[PortSpec, ...]) -> None:
    """Each port on its own, and all of them together."""
    for port in specs:
        validate_ports.port(port)
    validate_ports.together(port for port in specs if not port.is_route)
    routes.validate(specs)


def name(text: str, *, what: str = "service") -> None:
    """Of a service or a network: what a DNS name is made of."""
    if not text:
        raise Invalid(f"name: a {what} needs one")
    if len(text) > 63:
        raise Invalid(f"name must be 63 characters or fewer, not {len(text)}")
    if not _NAME.fullmatch(text):
        raise Invalid(f'name must be valid as a DNS name component: "{text}" is not')


def seconds(what: str, value: float) -> None:
    """A duration that clocks can keep: a number, not negative, not beyond a hundred years."""
    if not (math.isfinite(value) and 0 <= value <= _MAX_SECONDS):
        raise Invalid(f"{what} must be between 0s and {_MAX_SECONDS:.0f}s, not {value:g}s")


def _container(spec: ContainerSpec, *, runtime: str) -> None:
    if not spec.image:
        raise Invalid("ContainerSpec: image reference must be provided")
    if len(spec.image) > _MAX_IMAGE:
        raise Invalid(f"ContainerSpec: image must be {_MAX_IMAGE} characters or fewer, not {len(spec.image)}")
    try:
        image_ref.parse(spec.image)
    except Invalid as error:
        raise Invalid(f'ContainerSpec: "{spec.image}" is not a valid repository/tag') from error
    seconds("stop-grace-period", spec.stop_grace)
    validate_container.container(spec, runtime)
    for entry in spec.env:
        if not entry.partition("=")[0]:
            raise Invalid(f'env "{entry}" has no name: write NAME=value')
        if "=" not in entry:
            raise Invalid(f'env "{entry}" has no value: write NAME=value, or leave it out')
    validate_mounts.mounts(spec.mounts)


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
