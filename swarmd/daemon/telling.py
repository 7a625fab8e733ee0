"""What a manager tells its users of the group of managers, as it sees it."""

from __future__ import annotations

from swarmd.api.control import UseCases
from swarmd.control.core import managers
from swarmd.model.objects import Node
from swarmd.rpc.v1 import node_pb2
from swarmd.store.raft.port import RaftStatus


def group_view(status: RaftStatus, cases: UseCases) -> node_pb2.ManagerGroup:
    """The managers with their addresses and whether each can be reached from here."""
    view = node_pb2.ManagerGroup(
        can_lose=cases.nodes.can_lose_managers(),
        epoch=status.epoch,
        term=status.term,
        applied=status.applied,
        age=-1.0 if status.age is None else status.age,
    )
    for node_id, address in sorted(status.members.items(), key=lambda member: member[1]):
        node = cases.store.get(Node, node_id) or Node(id=node_id)
        view.managers.add(
            node_id=node_id,
            hostname=node.description.hostname,
            address=address,
            status=cases.nodes.manager_status(node),
        )
    return view


def about_joining(node_id: str, known: list[str]) -> list[str]:
    """Sentences for one that joined as a manager; ``known``: the managers it knows of."""
    return managers.about_number(len({node_id, *known}))
