"""Templates in what a service says about its containers: ``{{.Node.Hostname}}`` in env, hostname and mounts.

They are expanded by the node that makes the container; a manager expands them once with sample values, so
that a mistake is refused when the service is made and not by each of its tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from swarmd.kit.template import Dialect, TemplateError, compile_template
from swarmd.model.errors import Invalid
from swarmd.model.replace import replace
from swarmd.model.spec import ContainerSpec, MountSpec

DIALECT = Dialect(
    ("join", "split", "upper", "lower", "title", "index", "len", "print", "eq", "ne", "not", "and", "or"),
    loops=False,
)
"""No loops and no padding: what comes out is about as long as what goes in, on whatever node it runs."""

LONGEST = 1 << 20


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a template can ask for.  ``slot`` of a global service's task is its node's id, as in Swarm."""

    service_id: str
    service_name: str
    service_labels: Mapping[str, str]
    node_id: str
    node_hostname: str
    node_os: str
    node_arch: str
    task_id: str
    task_name: str
    task_slot: str


def sample(name: str, labels: Mapping[str, str]) -> Surroundings:
    """What a task of a service may find, before there is one."""
    return Surroundings(
        service_id="s" * 25,
        service_name=name,
        service_labels=labels,
        node_id="n" * 25,
        node_hostname="node",
        node_os="linux",
        node_arch="x86_64",
        task_id="t" * 25,
        task_name=f"{name}.1.{'t' * 25}",
        task_slot="1",
    )


def expand(spec: ContainerSpec, where: Surroundings) -> ContainerSpec:
    """``spec`` with its templates filled in.  Raises Invalid, naming the field and the place in it."""
    if not _has_templates(spec):
        return spec
    data = _data(where)
    return replace(
        spec,
        hostname=_text("hostname", spec.hostname, data),
        env=tuple(_text("env", entry, data) for entry in spec.env),
        mounts=tuple(_mount(mount, data) for mount in spec.mounts),
    )


def _has_templates(spec: ContainerSpec) -> bool:
    mounts = [text for one in spec.mounts for text in (one.source, one.target, *one.labels.values())]
    return any("{{" in text for text in (spec.hostname, *spec.env, *mounts))


def _mount(mount: MountSpec, data: Mapping[str, Any]) -> MountSpec:
    what = f"mount {mount.target}"
    return replace(
        mount,
        source=_text(f"{what}: source", mount.source, data),
        target=_text(f"{what}: target", mount.target, data),
        labels={
            key: _text(f"{what}: label {key}", value, data) for key, value in mount.labels.items()
        },
    )  # fmt: skip


def _text(what: str, text: str, data: Mapping[str, Any]) -> str:
    if "{{" not in text:
        return text
    try:
        result = compile_template(text, DIALECT)(data)
    except TemplateError as error:
        raise Invalid(f'{what} "{text}": {error}') from error
    if len(result) > LONGEST:
        raise Invalid(f"{what}: the expanded text of {len(result)} characters is longer than {LONGEST}")
    return result


def _data(where: Surroundings) -> dict[str, Any]:
    return {
        "Service": {
            "ID": where.service_id,
            "Name": where.service_name,
            "Labels": dict(where.service_labels),
        },
        "Node": {
            "ID": where.node_id,
            "Hostname": where.node_hostname,
            "Platform": {"OS": where.node_os, "Architecture": where.node_arch},
        },
        "Task": {"ID": where.task_id, "Name": where.task_name, "Slot": where.task_slot},
    }
