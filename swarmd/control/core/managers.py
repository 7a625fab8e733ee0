"""Decide whether the swarm can lose a manager, what to say of their number, and how each is called."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from swarmd.model.errors import Refused
from swarmd.model.objects import Node
from swarmd.model.states import Availability


def can_lose(members: Collection[str], reachable: Collection[str]) -> int:
    """How many more of ``members`` may fail before nothing can be changed any more."""
    alive = sum(1 for member in members if member in reachable)
    return max(0, alive - (len(members) // 2 + 1))


def about_number(managers: int) -> list[str]:
    """What is to be said of a swarm with so many managers: sentences, mostly none."""
    if managers == 2:
        return [
            "2 managers can lose none, and there are two that may fail: when either is gone, nothing can be "
            "changed until it is back. Add a third, or demote one while both are there."
        ]
    if managers and managers % 2 == 0:
        spare = (managers - 1) // 2
        return [f"{managers} managers can lose {spare}, as {managers - 1} can: add or remove one."]
    return []


def about_missing(names: Mapping[str, str], reachable: Collection[str]) -> list[str]:
    """A sentence when managers cannot be reached.  ``names``: node id to what a person calls it."""
    missing = sorted(name for node_id, name in names.items() if node_id not in reachable)
    if not missing:
        return []
    left = can_lose(names, reachable)
    return [
        f"of {len(names)} managers, {', '.join(missing)} cannot be reached: "
        f"the swarm can lose {left or 'no'} more."
    ]


def heirs(own: str, members: Collection[str], reachable: Collection[str], rows: Iterable[Node]) -> list[str]:
    """Who of the others should lead rather than one that should not: reachable, and not drained."""
    others = {member for member in members if member in reachable and member != own}
    return sorted(
        row.id for row in rows if row.id in others and row.spec.availability is not Availability.DRAIN
    )


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
