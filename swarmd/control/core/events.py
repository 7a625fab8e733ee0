"""What a change of a row is to a user who watches: kind, action, name and a few attributes.  Pure.

Attributes are named one by one, so nothing secret is among them; what changed stands as ``field.old`` and
``field.new``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

import msgspec

from swarmd.model.objects import (
    Cluster,
    JoinToken,
    Network,
    Node,
    RemovedNode,
    Row,
    Secret,
    Service,
    Task,
)
from swarmd.model.registry import RegistryTag, TrustKey, TrustRule
from swarmd.store.core.tables import Event

Describe = Callable[[Row], dict[str, str]]


class Happening(msgspec.Struct, frozen=True):
    """One change as users see it.  ``at``: seconds since 1970."""

    at: float
    kind: str
    action: str
    id: str
    name: str
    attributes: dict[str, str]


def _service(row: Row) -> dict[str, str]:
    assert isinstance(row, Service)
    status = row.update_status
    return {
        "image": row.spec.template.container.image,
        "replicas": str(row.spec.replicas),
        "updatestate": status.state.value if status else "",
    }


def _node(row: Row) -> dict[str, str]:
    assert isinstance(row, Node)
    return {
        "state": row.status.state.value,
        "availability": row.spec.availability.value,
        "role": row.role.value,
    }


def _network(row: Row) -> dict[str, str]:
    assert isinstance(row, Network)
    flags = ("attachable", "internal", "encrypted", "ipv6")
    return {
        "driver": row.driver,
        "subnets": ",".join(one.subnet for one in row.subnets) or row.subnet,
        **{flag: "true" if getattr(row.spec, flag) else "" for flag in flags},
    }


def _task(row: Row) -> dict[str, str]:
    assert isinstance(row, Task)
    return {
        "state": row.state.name.lower(),
        "desired": row.desired_state.name.lower(),
        "node": row.node_id,
    }


def _tag(row: Row) -> dict[str, str]:
    assert isinstance(row, RegistryTag)
    return {"digest": row.digest}


def _nothing(row: Row) -> dict[str, str]:
    return {}


_SHOWN: dict[type[Row], tuple[str, Callable[[Row], str], Describe]] = {
    Service: ("service", lambda row: getattr(getattr(row, "spec", None), "name", ""), _service),
    Node: ("node", lambda row: getattr(getattr(row, "description", None), "hostname", ""), _node),
    Task: ("task", lambda row: getattr(row, "name", ""), _task),
    Network: ("network", lambda row: getattr(row, "name", ""), _network),
    Secret: ("secret", lambda row: getattr(row, "name", ""), _nothing),
    JoinToken: ("token", lambda row: "", _nothing),
    Cluster: ("cluster", lambda row: "", _nothing),
    RemovedNode: ("removed_node", lambda row: "", _nothing),
    RegistryTag: ("image", lambda row: row.id, _tag),
    TrustKey: ("trust_key", lambda row: row.id, _nothing),
    TrustRule: ("trust_rule", lambda row: row.id, _nothing),
}
KINDS = frozenset(kind for kind, _, _ in _SHOWN.values())


def transactions(events: Iterable[Event]) -> Iterator[tuple[int, list[Event]]]:
    """Events by the transaction they belong to."""
    for index, group in groupby(events, key=lambda event: event.index):
        yield index, list(group)


def describe(event: Event) -> Happening | None:
    """The event for users; None for what they know nothing of, or see no change in."""
    shown = _SHOWN.get(event.kind)
    row = event.new or event.old
    if shown is None or row is None:
        return None
    kind, name, attributes = shown
    if event.new is None:
        action, told = "remove", _said(attributes(row)) if isinstance(row, Network) else {}
    elif event.old is None:
        action, told = "create", _said(attributes(event.new))
    else:
        action, told = "update", _difference(attributes(event.old), attributes(event.new))
        if not told and isinstance(row, Network):
            return None  # it was written so that prefixes are given one after another
    return Happening(event.at, kind, action, row.id, name(row), told)


def _said(attributes: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in attributes.items() if value}


def _difference(old: dict[str, str], new: dict[str, str]) -> dict[str, str]:
    changed: dict[str, str] = {}
    for key, value in new.items():
        if value != old[key]:
            changed[f"{key}.old"], changed[f"{key}.new"] = old[key], value
    return changed
