"""Find what a user names: by full id, by name, by a unique prefix of an id, in this order."""

from __future__ import annotations

from swarmd.control.core.validate import unique_prefix
from swarmd.model.errors import Invalid, NotFound
from swarmd.model.objects import JoinToken, Network, Node, Secret, Service, Task
from swarmd.store.store import Store


def service(store: Store, ref: str) -> Service:
    """Raises NotFound, or Invalid when a prefix fits several."""
    found = store.get(Service, ref) or store.service_by_name(ref)
    if found is None:
        row_id = unique_prefix(ref, (row.id for row in store.all(Service)), _ambiguous("service", ref))
        found = store.get(Service, row_id) if row_id else None
    if found is None:
        raise NotFound(f"service {ref} not found")
    return found


def node(store: Store, ref: str) -> Node:
    """Raises NotFound, or Invalid when a name or prefix fits several."""
    found = store.get(Node, ref)
    if found is None:
        named = [row for row in store.all(Node) if ref and row.description.hostname == ref]
        if len(named) > 1:
            raise Invalid(f"node {ref} is ambiguous ({len(named)} matches found): use the id")
        found = named[0] if named else None
    if found is None:
        row_id = unique_prefix(ref, (row.id for row in store.all(Node)), _ambiguous("node", ref))
        found = store.get(Node, row_id) if row_id else None
    if found is None:
        raise NotFound(f"node {ref} not found")
    return found


def network(store: Store, ref: str) -> Network:
    """Raises NotFound, or Invalid when a prefix fits several."""
    found = store.get(Network, ref) or store.network_by_name(ref)
    if found is None:
        row_id = unique_prefix(ref, (row.id for row in store.all(Network)), _ambiguous("network", ref))
        found = store.get(Network, row_id) if row_id else None
    if found is None:
        raise NotFound(f"network {ref} not found")
    return found


def task(store: Store, ref: str) -> Task:
    """Raises NotFound, or Invalid when a prefix fits several."""
    found = store.get(Task, ref)
    if found is None:
        row_id = unique_prefix(ref, (row.id for row in store.all(Task)), _ambiguous("task", ref))
        found = store.get(Task, row_id) if row_id else None
    if found is None:
        raise NotFound(f"task {ref} not found")
    return found


def token(store: Store, ref: str) -> JoinToken:
    """Raises NotFound, or Invalid when a prefix fits several."""
    found = store.get(JoinToken, ref)
    if found is None:
        ids = (row.id for row in store.all(JoinToken))
        row_id = unique_prefix(ref, ids, _ambiguous("join token", ref))
        found = store.get(JoinToken, row_id) if row_id else None
    if found is None:
        raise NotFound(f"join token {ref} not found")
    return found


def secret(store: Store, ref: str) -> Secret:
    """Raises NotFound, or Invalid when a prefix fits several."""
    found = store.get(Secret, ref) or store.secret_by_name(ref)
    if found is None:
        row_id = unique_prefix(ref, (row.id for row in store.all(Secret)), _ambiguous("secret", ref))
        found = store.get(Secret, row_id) if row_id else None
    if found is None:
        raise NotFound(f"secret {ref} not found")
    return found


class _ambiguous:  # noqa: N801 - reads as the function it is
    def __init__(self, kind: str, ref: str) -> None:
        self._text = f"{kind} {ref} is ambiguous: more than one id begins with it"

    def __call__(self) -> Invalid:
        return Invalid(self._text)
