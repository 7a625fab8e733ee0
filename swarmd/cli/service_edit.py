"""How flags change a service's spec: single fields by path, lists by adding and removing.  Pure.

``spec`` is always a protobuf ServiceSpec, changed in place.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from swarmd.cli.container_text import UNSET
from swarmd.cli.spec_text import Port

if TYPE_CHECKING:
    from swarmd.rpc.v1 import types_pb2


def set_path(spec: types_pb2.ServiceSpec, path: str, value: Any) -> None:
    """Set ``template.limits.memory`` and the like; a list replaces the list there, UNSET clears the field."""
    target: Any = spec
    *parents, name = path.split(".")
    for parent in parents:
        target = getattr(target, parent)
    if value is UNSET:
        target.ClearField(name)
    elif isinstance(value, list):
        target.ClearField(name)
        getattr(target, name).extend(value)
    else:
        setattr(target, name, value)


def get_path(spec: types_pb2.ServiceSpec, path: str) -> Any:
    """What stands at a path."""
    target: Any = spec
    for name in path.split("."):
        target = getattr(target, name)
    return target


def edit_labels(labels: MutableMapping[str, str], add: dict[str, str], remove: Iterable[str]) -> None:
    """Labels by key; one that is removed and added is the new one."""
    for key in remove:
        labels.pop(key, None)
    for key, value in add.items():
        labels[key] = value


def edit_env(spec: types_pb2.ServiceSpec, add: Sequence[str], remove: Sequence[str]) -> None:
    """Variables by name; a changed one keeps its place."""
    kept = {text.partition("=")[0]: text for text in spec.template.container.env}
    for name in remove:
        kept.pop(name, None)
    kept |= {text.partition("=")[0]: text for text in add}
    set_path(spec, "template.container.env", list(kept.values()))


def edit_constraints(spec: types_pb2.ServiceSpec, add: Sequence[str], remove: Sequence[str]) -> None:
    """Constraints by their text, blanks aside; none stands twice."""
    gone = {_tight(text) for text in remove}
    kept = {_tight(text): text for text in spec.template.placement.constraints if _tight(text) not in gone}
    for text in add:
        kept.setdefault(_tight(text), text)
    set_path(spec, "template.placement.constraints", list(kept.values()))


def edit_ports(spec: types_pb2.ServiceSpec, add: Sequence[Port], remove: Sequence[Port]) -> None:
    """Removed by target port, protocol and mode; added once; in order of the published port."""
    gone = {(port.target, port.protocol, port.mode) for port in remove}
    have = [Port(port.target, port.published, port.protocol, port.mode) for port in spec.ports]
    kept = [port for port in have if (port.target, port.protocol, port.mode) not in gone]
    kept += [port for port in dict.fromkeys(add) if port not in kept]
    spec.ClearField("ports")
    for port in sorted(kept, key=lambda port: port.published):
        spec.ports.add(**port._asdict())


def _tight(constraint: str) -> str:
    return "".join(constraint.split())
