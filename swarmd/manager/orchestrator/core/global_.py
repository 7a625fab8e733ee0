"""Decide on which nodes a global service has its one task."""

from __future__ import annotations

from swarmd.manager.orchestrator.core.draft import Draft, Key
from swarmd.manager.orchestrator.core.health import is_dead
from swarmd.manager.orchestrator.core.restart import is_finished
from swarmd.model import constraint
from swarmd.model.objects import Node
from swarmd.model.states import Availability, NodeState


def settle_slots(draft: Draft) -> list[Key]:
    """One task on each node that fits; answers the nodes that have or get one."""
    constraints = draft.service.spec.template.placement.constraints
    kept: list[Key] = []
    for node_id in sorted({*draft.nodes, *(str(key) for key in draft.keys)}):
        node = draft.nodes.get(node_id)
        if node is None or node.removed:
            _forget(draft, node_id)
        elif not _may_stay(node, constraints):
            _leave(draft, node_id)
        elif draft.wanted(node_id) or is_finished(draft, node_id):
            kept.append(node_id)
        elif _may_come(node):
            draft.add(node_id)
            kept.append(node_id)
    return kept


def is_paused(draft: Draft, key: Key) -> bool:
    """A paused node keeps the task it has: it gets neither a new one nor an update."""
    node = draft.nodes.get(str(key))
    return node is not None and node.spec.availability == Availability.PAUSE


def _may_stay(node: Node, constraints: tuple[str, ...]) -> bool:
    return (
        not is_dead(node)
        and node.spec.availability != Availability.DRAIN
        and constraint.meets(constraints, node)
    )


def _may_come(node: Node) -> bool:
    return node.status.state == NodeState.READY and node.spec.availability == Availability.ACTIVE


def _leave(draft: Draft, node_id: str) -> None:
    for task in draft.wanted(node_id):
        draft.end(task)


def _forget(draft: Draft, node_id: str) -> None:
    if draft.tasks(node_id):
        draft.remove(node_id)
