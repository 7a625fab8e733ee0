"""Structs to protobuf and back, by field name: ``types.proto`` mirrors ``swarmd.model``.

For each struct type one list of small converters is built once, so no schema is written twice by hand;
a test holds that every struct field has a protobuf field of the same name.
"""

from __future__ import annotations

import enum
import functools
import operator
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import Message

from swarmd.model import containers, health, network, objects, registry, spec
from swarmd.rpc.v1 import types_pb2

T = TypeVar("T", bound=msgspec.Struct)

_Setter = Callable[[Message, Any], None]
_Getter = Callable[[Message], Any]
MANY = 4
"""Lists and maps in a kind from which on it is quicker to ask a message what it has."""

_PLAIN = (str, int, float, bool, bytes)

STRUCTS: tuple[type[msgspec.Struct], ...] = (
    spec.PortSpec, spec.MountSpec, spec.UlimitSpec, spec.DeviceSpec, spec.ThrottleSpec,
    spec.ContainerSpec, spec.Resources, spec.RestartPolicy, spec.Placement,
    health.HealthSpec, health.ProbeSpec,
    network.SubnetSpec, network.NetworkSpec, network.NetworkAttachment,
    network.VirtualIp, network.TaskNetwork, network.ContainerNetwork,
    spec.TaskTemplate, spec.UpdateConfig, spec.ServiceSpec, spec.NodeSpec, spec.ClusterSpec,
    objects.UpdateStatus, objects.Service, objects.SpecVersion, objects.TaskStatus, objects.Task,
    objects.NodeDescription, objects.NodeCertificate, objects.NodeStatus, objects.Node,
    objects.CaRotation, objects.GossipChange, objects.Cluster, objects.Network,
    objects.PortAllocation, objects.RemovedNode, objects.JoinToken,
    objects.AddressAllocation, containers.SingleContainer, objects.Secret,
    registry.RegistryManifest, registry.RegistryTag, registry.RegistryCredential,
    registry.TrustKey, registry.TrustRule, registry.ImageScan,
)  # fmt: skip

MESSAGES: dict[type[msgspec.Struct], type[Message]] = {
    struct: getattr(types_pb2, struct.__name__) for struct in STRUCTS
}


def to_proto(struct: msgspec.Struct) -> Any:
    """The protobuf message of a struct."""
    message = MESSAGES[type(struct)]()
    fill(message, struct)
    return message


def fill(message: Message, struct: msgspec.Struct) -> None:
    """Write a struct's fields into an empty message (a sub-message of a request, say)."""
    plan = _plan(type(struct))
    for name, value in zip(plan.plain, plan.plain_of(struct), strict=True):
        if value:  # what is not said reads as zero
            setattr(message, name, value)
    for name, put, _ in plan.others:
        put(message, getattr(struct, name))
    for name, put, _, _ in plan.many:
        value = getattr(struct, name)
        if value:
            put(message, value)


def from_proto(kind: type[T], message: Message) -> T:
    """The struct of a protobuf message."""
    plan = _plan(kind)
    values = dict(zip(plan.plain, plan.plain_of(message), strict=True))
    for name, _, get in plan.others:
        values[name] = get(message)
    if len(plan.many) >= MANY:
        present = {field.name for field, _ in message.ListFields()}
        for name, _, get, empty in plan.many:
            values[name] = get(message) if name in present else empty()
    else:
        for name, _, get, _ in plan.many:
            values[name] = get(message)
    return kind(**values)


def encode(struct: msgspec.Struct) -> bytes:
    """A struct as protobuf bytes."""
    data: bytes = to_proto(struct).SerializeToString()
    return data


def decode(kind: type[T], data: bytes) -> T:
    """Protobuf bytes as a struct; raises google.protobuf.message.DecodeError on garbage."""
    message = MESSAGES[kind]()
    message.ParseFromString(data)
    return from_proto(kind, message)


class _Plan(msgspec.Struct, frozen=True):
    """How one kind is converted.

    ``plain`` fields are the same on both sides and fetched in one call; ``many`` are lists and maps, of which
    a message of many has few: then those that are there are asked for at once.
    """

    plain: tuple[str, ...]
    plain_of: Callable[[Any], tuple[Any, ...]]
    others: tuple[tuple[str, _Setter, _Getter], ...]
    many: tuple[tuple[str, _Setter, _Getter, Callable[[], Any]], ...]


@functools.cache
def _plan(kind: type[msgspec.Struct]) -> _Plan:
    hints = typing.get_type_hints(kind)
    names = [field.name for field in msgspec.structs.fields(kind)]
    plain = tuple(name for name in names if hints[name] in _PLAIN)
    origins = {name: typing.get_origin(hints[name]) for name in names}
    many = tuple(
        (name, *_converters(name, hints[name]), origins[name])
        for name in names
        if origins[name] in (tuple, dict)
    )
    listed = {*plain, *(name for name, *_ in many)}
    others = tuple((name, *_converters(name, hints[name])) for name in names if name not in listed)
    return _Plan(plain, _all_of(plain), others, many)


def _all_of(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """The values of ``names``, always as a tuple."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda owner: tuple(getattr(owner, name) for name in names)


def _converters(name: str, hint: Any) -> tuple[_Setter, _Getter]:
    origin = typing.get_origin(hint)
    if origin is tuple:
        return _repeated(name, typing.get_args(hint)[0])
    if origin is dict:
        return _mapping(name)
    if origin in (typing.Union, types.UnionType):
        return _optional(name, next(arg for arg in typing.get_args(hint) if arg is not type(None)))
    if issubclass(hint, msgspec.Struct):
        return _nested(name, hint)
    if issubclass(hint, enum.Enum):
        return _choice(name, hint)
    raise TypeError(f"field {name}: there is no rule for {hint}")


class _Members(dict[Any, Any]):
    """Members of an enumeration by value; much quicker than calling it."""

    def __init__(self, kind: type[enum.Enum]) -> None:
        super().__init__({member.value: member for member in kind})
        self._kind = kind

    def __missing__(self, value: Any) -> Any:
        return self._kind(value)  # raises the ValueError of an unknown one


def _choice(name: str, kind: type[enum.Enum]) -> tuple[_Setter, _Getter]:
    members = _Members(kind)
    values = {member: member.value for member in kind}

    def put(message: Message, value: Any) -> None:
        setattr(message, name, values[value])

    return put, lambda message: members[getattr(message, name)]


def _nested(name: str, kind: type[msgspec.Struct]) -> tuple[_Setter, _Getter]:
    def put(message: Message, value: Any) -> None:
        inner = getattr(message, name)
        inner.SetInParent()
        fill(inner, value)

    return put, lambda message: from_proto(kind, getattr(message, name))


def _optional(name: str, kind: Any) -> tuple[_Setter, _Getter]:
    if kind in _PLAIN:
        return _optional_plain(name)
    put_nested, get_nested = _nested(name, kind)

    def put(message: Message, value: Any) -> None:
        if value is not None:
            put_nested(message, value)

    return put, lambda message: get_nested(message) if message.HasField(name) else None


def _optional_plain(name: str) -> tuple[_Setter, _Getter]:
    """An ``optional`` field: zero is a value, other than not being there."""

    def put(message: Message, value: Any) -> None:
        if value is not None:
            setattr(message, name, value)

    return put, lambda message: getattr(message, name) if message.HasField(name) else None


def _repeated(name: str, item: Any) -> tuple[_Setter, _Getter]:
    if isinstance(item, type) and issubclass(item, msgspec.Struct):

        def put(message: Message, value: Any) -> None:
            target = getattr(message, name)
            for one in value:
                fill(target.add(), one)

        return put, lambda message: tuple(from_proto(item, one) for one in getattr(message, name))

    def put_plain(message: Message, value: Any) -> None:
        getattr(message, name).extend(value)

    return put_plain, lambda message: tuple(getattr(message, name))


def _mapping(name: str) -> tuple[_Setter, _Getter]:
    def put(message: Message, value: Any) -> None:
        getattr(message, name).update(value)

    return put, lambda message: dict(getattr(message, name))
