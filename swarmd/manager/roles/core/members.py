"""Decide who belongs to the Raft group: the nodes that shall be managers and can be.

Join before counting, leave before losing the certificate: a new manager is a member only once it follows,
and a demoted one stays a manager in its row until it has left the group.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from swarmd.model.objects import Node
from swarmd.model.replace import replace
from swarmd.model.states import Role


class RolePlan(msgspec.Struct, frozen=True):
    """Rows to write, and the members that the group should have next (None = as it is)."""

    rows: tuple[Node, ...] = ()
    members: dict[str, str] | None = None


def plan(
    nodes: Iterable[Node], members: Mapping[str, str], connected: Collection[str], *, level: int = 0
) -> RolePlan:
    """One step: rows follow the group, the group follows what users want.

    ``members``: node id -> "ip:port" of the present group.  ``connected``: nodes with a live session.
    One node joins or leaves at a time; one whose version does not understand the swarm's feature ``level``
    does not join.
    """
    by_id = {node.id: node for node in nodes}
    rows = tuple(
        replace(node, role=role) for node in by_id.values() if node.role is not (role := _role(node, members))
    )
    return RolePlan(rows=rows, members=_next_members(by_id, members, connected, level))


def _role(node: Node, members: Mapping[str, str]) -> Role:
    if node.id in members:
        return Role.MANAGER
    return Role.MANAGER if node.spec.role is Role.MANAGER and node.role is Role.MANAGER else Role.WORKER


def _next_members(
    nodes: Mapping[str, Node], members: Mapping[str, str], connected: Collection[str], level: int
) -> dict[str, str] | None:
    for member in sorted(members):
        node = nodes.get(member)
        if (node is None or node.spec.role is Role.WORKER) and len(members) > 1:
            return {other: address for other, address in members.items() if other != member}
    for node in sorted(nodes.values(), key=lambda node: (node.created_at, node.id)):
        able = node.id in members or node.description.feature_level >= level
        ready = able and node.id in connected and bool(node.raft_address)
        if node.spec.role is Role.MANAGER and ready and members.get(node.id) != node.raft_address:
            return {**members, node.id: node.raft_address}
    return None
