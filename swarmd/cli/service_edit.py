"""How flags change a service's spec: single fields by path, lists by adding and removing.  Pure.

``spec`` is always a protobuf ServiceSpec, changed in place.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from swarmd.cli.container_text import UNSET
from swarmd.cli.network_text import Attachment
from swarmd.cli.port_text import Port

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


def edit_ports(
    spec: types_pb2.ServiceSpec, add: Sequence[tuple[Port, ...]], remove: Sequence[tuple[Port, ...]]
) -> None:
    """Removed by target port, protocol and mode, and by route where one is named; one that is there already
    is replaced, so that its words can be changed; in order of the published port."""
    gone = [port for ports in remove for port in ports]
    have = [_port(port) for port in spec.ports]
    kept = {port.place: port for port in have if not any(port.is_meant_by(one) for one in gone)}
    kept |= {port.place: port for ports in add for port in ports}
    spec.ClearField("ports")
    for port in sorted(kept.values(), key=lambda port: port.published):
        spec.ports.add(**port._asdict())


def edit_networks(
    spec: types_pb2.ServiceSpec, add: Sequence[Attachment], remove: Sequence[Attachment]
) -> None:
    """Networks by their target; one that is there already is replaced and keeps its place.

    Raises ValueError when one that is to be removed is not there.
    """
    networks = spec.template.networks
    kept = {one.target: Attachment(**_attachment(one)) for one in networks}
    for one in remove:
        if kept.pop(one.target, None) is None:
            raise ValueError(f"the service is not in network {one.target}")
    kept |= {one.target: one for one in add}
    spec.template.ClearField("networks")
    for one in kept.values():
        spec.template.networks.add(**one._asdict() | {"options": dict(one.options)})


def _port(port: types_pb2.PortSpec) -> Port:
    found = {name: getattr(port, name) for name in Port._fields}
    return Port(**found | {"allow": tuple(port.allow)})


def _attachment(one: types_pb2.NetworkAttachment) -> dict[str, Any]:
    return {
        "target": one.target,
        "aliases": tuple(one.aliases),
        "vip": one.vip,
        "addresses": tuple(one.addresses),
        "options": tuple(sorted(one.options.items())),
    }


def _tight(constraint: str) -> str:
    return "".join(constraint.split())
