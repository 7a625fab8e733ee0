"""How a manager parts from the others: only when told to by force, and then in order if they answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from swarmd.control.nodes import NodeChange
from swarmd.daemon.managing import Managing
from swarmd.daemon.working import Machine
from swarmd.kit.supervise import caught
from swarmd.model.errors import Refused, Unavailable
from swarmd.model.states import Role
from swarmd.rpc.v1 import control_pb2, control_pb2_grpc

LAST_MANAGER = (
    "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last "
    "manager erases all current state of the swarm. Use `--force` to ignore this message."
)
ONE_OF_MANAGERS = (
    "You are attempting to leave the swarm on a node that is participating as a manager. Removing this node "
    "leaves {left} managers out of {all}. Without a Raft quorum your swarm will be inaccessible. Demote the "
    "node first, or use `--force` to suppress this message."
)
LEAVE_LIMIT = 20.0
"""Seconds a manager that leaves waits for the others to let it go."""


async def leave_group(managing: Managing, node_id: str, *, force: bool) -> None:
    """Have the others go on without this manager, or give that up in the end.  Raises Refused."""
    members = managing.raft.status().members
    if not force:
        if len(members) <= 1:
            raise Refused(LAST_MANAGER)
        raise Refused(ONE_OF_MANAGERS.format(left=len(members) - 1, all=len(members)))
    if len(members) <= 1:
        return
    error = await caught(_part(managing, node_id))
    if error is not None:
        structlog.get_logger().warning("left_without_the_others", reason=str(error))


async def clean_network(
    make_machine: Callable[[str], Awaitable[Machine]], report: Callable[[str, BaseException], None]
) -> None:
    """Take away what a membership that cannot be taken up again left in the kernel's network."""

    async def work() -> None:
        machine = await make_machine("")
        await machine.network.stop(clean=True)

    error = await caught(work())
    if error is not None:
        report("end of the network", error)


async def _part(managing: Managing, node_id: str) -> None:
    leader = await managing.find_leader()
    if leader.channel is None:
        await managing.cases.nodes.update(node_id, NodeChange(role=Role.WORKER.value))
    else:
        request = control_pb2.UpdateNodeRequest(ref=node_id, role=Role.WORKER.value)
        await control_pb2_grpc.ControlStub(leader.channel).UpdateNode(request, timeout=10)
    if not await managing.released(LEAVE_LIMIT):
        raise Unavailable(f"no answer within {LEAVE_LIMIT:.0f} s")
