"""What a node tells its users of its part in the swarm, and a manager of the group of managers."""

from __future__ import annotations

from swarmd.api.control import UseCases
from swarmd.api.forward import NOT_CONNECTED
from swarmd.control.core import managers
from swarmd.daemon.member import Member
from swarmd.model.objects import Node
from swarmd.rpc.v1 import node_pb2
from swarmd.store.raft.port import RaftStatus

NO_MANAGER = "no manager can be reached at the moment"


def describe_member(member: Member, response: node_pb2.InfoResponse) -> None:
    """Fill in what ``swarmctl info`` shows of a node in a swarm."""
    session = member.working.session
    response.node_id = member.memory.node_id
    response.node_address = member.memory.address
    response.cluster_id = member.memory.cluster_id
    response.is_manager = member.managing is not None
    response.is_leader = member.managing is not None and member.managing.raft.is_leader()
    response.managers.extend(remote.raft_address for remote in member.memory.managers)
    response.warnings.extend(member.problems())
    if member.managing is not None:
        response.warnings.extend(member.managing.raft.status().warnings)
        response.group.CopyFrom(group_view(member.managing.raft.status(), member.managing.cases))
        response.warnings.extend(member.managing.cases.nodes.warnings())
    if not session.connected:
        # gRPC's own words are for the log.
        unreached = not session.problem or session.problem.startswith(NOT_CONNECTED)
        response.error = NO_MANAGER if unreached else session.problem


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
