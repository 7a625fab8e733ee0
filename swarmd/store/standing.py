"""What the rows say of a node that shows a certificate: certificates outlive what they say.

Only what a store says for sure counts: it may lag behind the leader's.
"""

from __future__ import annotations

from swarmd.model.errors import Denied
from swarmd.model.objects import Node, RemovedNode
from swarmd.model.states import Role
from swarmd.store.store import Store


def is_manager(node: Node) -> bool:
    """Wanted as a manager, or still one: a demoted manager is one until it has left the group."""
    return Role.MANAGER in (node.spec.role, node.role)


def check_not_removed(node_id: str, store: Store) -> None:
    """Raises Denied for a node that this store knows to be removed."""
    if store.get(RemovedNode, node_id) is not None:
        raise Denied(
            f"node {node_id} is not part of this swarm any more: "
            "run `swarmctl swarm leave --force` on it and join again"
        )


def check_manager(node_id: str, store: Store) -> None:
    """Raises Denied for a node that this store knows to be removed, or to be no manager."""
    check_not_removed(node_id, store)
    row = store.get(Node, node_id)
    if row is not None and not is_manager(row):
        raise Denied(f"node {node_id} is no manager any more: only managers may make this call")


def check_newest(node: Node, valid_from: float) -> None:
    """Raises Denied for a certificate (good from ``valid_from`` on) older than the one the node used last.

    An expired certificate opens a little; one that was replaced, and may have been copied since, nothing.
    """
    # Rows keep times as certificates do: whole seconds.
    if valid_from < node.status.certificate.valid_from:
        raise Denied(
            f"node {node.id} has had a newer certificate than the one shown, which has expired: use "
            "the newest one, or run `swarmctl swarm leave --force` on the node and join again"
        )
