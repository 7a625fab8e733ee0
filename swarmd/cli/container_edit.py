"""How flags change what a service says about its containers.  Pure but for the file of a seccomp profile.

``spec`` is always a protobuf ServiceSpec, changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from swarmd.cli.mount_text import Mount
from swarmd.cli.service_edit import get_path, set_path
from swarmd.cli.spec_text import parse_labels

if TYPE_CHECKING:
    from swarmd.rpc.v1 import types_pb2

    Edit = Callable[[types_pb2.ServiceSpec, Sequence[Any], Sequence[Any]], None]

CONTAINER = "template.container"


def texts(path: str) -> Edit:
    """Edits a list of texts: none stands twice, the order is that in which they came."""

    def change(spec: types_pb2.ServiceSpec, add: Sequence[str], remove: Sequence[str]) -> None:
        kept = [text for text in get_path(spec, path) if text not in remove]
        set_path(spec, path, list(dict.fromkeys((*kept, *add))))

    return change


def keyed(path: str, key: str) -> Edit:
    """Edits a list of messages that are told apart by one field; a changed one keeps its place."""

    def change(spec: types_pb2.ServiceSpec, add: Sequence[NamedTuple], remove: Sequence[str]) -> None:
        repeated = get_path(spec, path)
        kept: dict[str, Mapping[str, Any]] = {
            getattr(one, key): {field.name: getattr(one, field.name) for field in one.DESCRIPTOR.fields}
            for one in repeated
        }
        for name in remove:
            kept.pop(name, None)
        kept |= {getattr(one, key): one._asdict() for one in add}
        del repeated[:]
        for fields in kept.values():
            repeated.add(**fields)

    return change


def labels(path: str) -> Edit:
    """Edits texts ``key=value`` by key; one that is removed and added is the new one."""

    def change(spec: types_pb2.ServiceSpec, add: Sequence[str], remove: Sequence[str]) -> None:
        found = get_path(spec, path)
        for key in remove:
            found.pop(key, None)
        for key, value in parse_labels(add).items():
            found[key] = value

    return change


def hosts(spec: types_pb2.ServiceSpec, add: Sequence[str], remove: Sequence[tuple[str, str]]) -> None:
    """``add`` are lines ``ADDRESS NAME``; ``remove`` (name, address), no address: all of that name."""
    kept = [
        line
        for line in spec.template.container.hosts
        if not any(_is_host(line, name, address) for name, address in remove)
    ]
    set_path(spec, f"{CONTAINER}.hosts", list(dict.fromkeys((*kept, *add))))


def mounts(spec: types_pb2.ServiceSpec, add: Sequence[Mount], remove: Sequence[str]) -> None:
    """By target; raises ValueError when two added mounts have the same one."""
    targets = [mount.target for mount in add]
    for target in targets:
        if targets.count(target) > 1:
            raise ValueError(f"duplicate mount target: {target}")
    container = spec.template.container
    gone = {*targets, *remove}
    kept = [mount for mount in container.mounts if mount.target not in gone]
    container.ClearField("mounts")
    container.mounts.extend(kept)
    for mount in add:
        container.mounts.add(**mount._asdict())


def capabilities(spec: types_pb2.ServiceSpec, add: Sequence[str], drop: Sequence[str]) -> None:
    """Adding one takes it out of the dropped and the other way round; named in both, it is dropped."""
    container = spec.template.container
    dropped = (set(container.cap_drop) - set(add)) | set(drop)
    added = (set(container.cap_add) | set(add)) - set(drop)
    set_path(spec, f"{CONTAINER}.cap_add", sorted(added))
    set_path(spec, f"{CONTAINER}.cap_drop", sorted(dropped))


def security(
    read: Callable[[str], str],
) -> Callable[[types_pb2.ServiceSpec, Sequence[tuple[str, str]]], None]:
    """Edits what ``--security-opt`` sets; ``read`` gives the content of a profile's file."""

    def change(spec: types_pb2.ServiceSpec, values: Sequence[tuple[str, str]]) -> None:
        container = spec.template.container
        for name, value in values:
            if name == "no-new-privileges":
                container.no_new_privileges = value == "true"
            elif value in ("default", "builtin"):
                container.seccomp = ""
            else:
                container.seccomp = value if value == "unconfined" else read(value)

    return change


def _is_host(line: str, name: str, address: str) -> bool:
    found, _, names = line.partition(" ")
    return name in names.split() and address in ("", found)
