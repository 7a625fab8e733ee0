"""Decide whether the swarm can lose a manager, and how a manager is called in a table."""

from __future__ import annotations

from collections.abc import Collection

from swarmd.model.errors import Refused
from swarmd.model.objects import Node


def can_lose(members: int) -> int:
    """How many of ``members`` managers may fail before nothing can be changed any more."""
    return (members - 1) // 2 if members else 0


def check_demotion(node: Node, members: Collection[str], reachable: Collection[str]) -> None:
    """Raises Refused when the swarm would be left without a majority.

    ``members`` and ``reachable`` are node ids; a member that cannot be reached may always go.
    """
    if node.id not in members:
        return
    if len(members) <= 1:
        raise Refused("attempting to demote the last manager of the swarm")
    left = [member for member in members if member != node.id]
    alive = [member for member in left if member in reachable]
    if len(alive) < len(left) // 2 + 1:
        raise Refused(
            f"can't remove member {node.id} from the raft: this would result in a loss of quorum "
            f"({len(alive)} of {len(left)} remaining managers are reachable)"
        )


def status_of(node_id: str, members: Collection[str], leader: str | None, reachable: Collection[str]) -> str:
    """The MANAGER STATUS of a node; "" for a worker."""
    if node_id not in members:
        return ""
    if node_id == leader:
        return "Leader"
    return "Reachable" if node_id in reachable else "Unreachable"
