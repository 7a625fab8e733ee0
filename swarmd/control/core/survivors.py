"""What the rows of a swarm become when one manager goes on without the others.  Pure.

    begun anew on a manager that is left  ──► it is the only one; the others are workers, unheard of
    put back on it to a snapshot          ──► the same, and no other node has been heard of yet
    restored on a machine of no swarm     ──► the same; what ran on the node whose place it takes is lost

Everything else stays: authority, tokens, keys, services, tasks.  A node that is heard of within a new
leader's patience keeps its tasks; those of the others are started elsewhere by the usual loops.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from swarmd.model.objects import Cluster, Node, Row, Task
from swarmd.model.replace import replace
from swarmd.model.states import NodeState, Role, TaskState

BEGUN_ANEW = "was a manager when the swarm was begun anew without it"
RESTORED = "not heard of since the swarm was restored from a snapshot"
LOST = "its node was lost; another machine has taken its place"


class Survivor(msgspec.Struct, frozen=True):
    """The manager that goes on: its id, its IP address, and ``ip:port`` of its cluster port."""

    node_id: str
    address: str
    raft_address: str


def place_of(rows: Iterable[Row], address: str) -> Node | None:
    """The node whose place a machine with that IP address takes: others look for it there, under its id."""
    there = [row for row in rows if isinstance(row, Node) and row.status.address == address]
    return max(there, key=lambda node: (_is_manager(node), node.updated_at, node.id), default=None)


def begun_anew(rows: Sequence[Row], survivor: Survivor, *, index: int, now: float) -> list[Row]:
    """The rows with ``survivor`` as the only manager; it gets a row, written by ``index``, if it has none.

    ``now``: seconds since 1970.
    """
    others = [_demoted(row) if isinstance(row, Node) and row.id != survivor.node_id else row for row in rows]
    return _with_survivor(others, survivor, index=index, now=now)


def put_back(rows: Sequence[Row], survivor: Survivor, *, index: int, now: float) -> list[Row]:
    """The rows of a snapshot on a manager that still has its tasks.

    The swarm's own row counts as written just now: each manager carries out only what is newer than the last.
    """
    changed: list[Row] = []
    for row in rows:
        if isinstance(row, Cluster):
            changed.append(replace(row, version=max(index, 1)))
        elif isinstance(row, Node) and row.id != survivor.node_id:
            changed.append(_unheard(row, RESTORED))
        else:
            changed.append(row)
    return begun_anew(changed, survivor, index=index, now=now)


def restored(rows: Sequence[Row], survivor: Survivor, *, index: int, now: float) -> list[Row]:
    """The rows of a snapshot on a machine that has no task yet."""
    lost = [
        _lost(row, now) if isinstance(row, Task) and row.node_id == survivor.node_id else row for row in rows
    ]
    return put_back(lost, survivor, index=index, now=now)


def _is_manager(node: Node) -> bool:
    return Role.MANAGER in (node.role, node.spec.role)


def _demoted(node: Node) -> Node:
    if not _is_manager(node):
        return node
    worker = replace(node, spec=replace(node.spec, role=Role.WORKER), role=Role.WORKER, raft_address="")
    return _unheard(worker, BEGUN_ANEW)


def _unheard(node: Node, why: str) -> Node:
    return replace(node, status=replace(node.status, state=NodeState.UNKNOWN, message=why))


def _lost(task: Task, now: float) -> Task:
    if task.state.is_terminal:
        return task
    status = replace(task.status, state=TaskState.ORPHANED, at=now, message=LOST)
    return replace(task, status=status)


def _with_survivor(rows: list[Row], survivor: Survivor, *, index: int, now: float) -> list[Row]:
    known = next((row for row in rows if isinstance(row, Node) and row.id == survivor.node_id), None)
    # Version 0 would mean that no such row exists.
    node = known or Node(
        id=survivor.node_id,
        number=_free_number(rows),
        version=max(index, 1),
        created_at=now,
        updated_at=now,
    )
    manager = replace(
        node,
        spec=replace(node.spec, role=Role.MANAGER),
        role=Role.MANAGER,
        raft_address=survivor.raft_address,
        status=replace(node.status, address=survivor.address),
    )
    return [*(row for row in rows if row is not known), manager]


def _free_number(rows: Iterable[Row]) -> int:
    taken = {row.number for row in rows if isinstance(row, Node)}
    return next(number for number in range(1, len(taken) + 2) if number not in taken)
