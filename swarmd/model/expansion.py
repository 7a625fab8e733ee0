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
    ("upper", "lower", "title", "index", "len", "print", "eq", "ne", "not", "and", "or"), loops=False
)
"""No loops, no padding, no joining: no small text becomes a huge one, on a manager or on any node."""

LONGEST_TEMPLATE = 4096
MOST_LABELS = 1 << 16
MOST = 1 << 20
"""Characters: of one text with a template in it, of all labels of its service, of all that comes out."""


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
    fill = _Filling(_data(where))
    return replace(
        spec,
        hostname=fill.text("hostname", spec.hostname),
        env=tuple(fill.text("env", entry) for entry in spec.env),
        mounts=tuple(fill.mount(mount) for mount in spec.mounts),
    )


def _has_templates(spec: ContainerSpec) -> bool:
    mounts = [text for one in spec.mounts for text in (one.source, one.target, *one.labels.values())]
    return any("{{" in text for text in (spec.hostname, *spec.env, *mounts))


class _Filling:
    """Fills texts in, and counts what comes out."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data
        self._size = 0

    def mount(self, mount: MountSpec) -> MountSpec:
        what = f"mount {mount.target}"
        return replace(
            mount,
            source=self.text(f"{what}: source", mount.source),
            target=self.text(f"{what}: target", mount.target),
            labels={key: self.text(f"{what}: label {key}", value) for key, value in mount.labels.items()},
        )

    def text(self, what: str, text: str) -> str:
        if "{{" not in text:
            return text
        if len(text) > LONGEST_TEMPLATE:
            raise Invalid(
                f"{what}: a text of {len(text)} characters has a template in it, and those may have "
                f'{LONGEST_TEMPLATE}: two braces that are meant are written {{{{"{{{{"}}}}'
            )
        try:
            result = compile_template(text, DIALECT)(self._data)
        except TemplateError as error:
            raise Invalid(f'{what} "{text}": {error}') from error
        if not result.isascii() and any("\ud800" <= letter <= "\udfff" for letter in result):
            raise Invalid(f'{what} "{text}": what comes out is no text')
        self._size += len(result)
        if self._size > MOST:
            raise Invalid(f"{what}: with this template all texts are more than {MOST} characters")
        return result


def _data(where: Surroundings) -> dict[str, Any]:
    size = sum(len(key) + len(value) for key, value in where.service_labels.items())
    if size > MOST_LABELS:
        raise Invalid(f"templates know service labels of {MOST_LABELS} characters at most, not of {size}")
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
