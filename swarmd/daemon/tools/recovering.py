"""Recovery on a running daemon: `swarm init --force-new-cluster` and `cluster snapshot restore`."""

from __future__ import annotations

from swarmd.control.cluster import Clusters
from swarmd.control.snapshots import unpack
from swarmd.daemon.member import Member
from swarmd.daemon.requests import listen_address
from swarmd.daemon.swarm import Swarm
from swarmd.daemon.tools.anew import Recovery
from swarmd.model.errors import NotManager, Refused, Unavailable
from swarmd.model.objects import Node, Service
from swarmd.node import addresses
from swarmd.rpc.v1 import node_pb2
from swarmd.store.raft.epochs import is_majority

NO_MANAGER = (
    "This node is not a swarm manager, so it holds nothing that a swarm could be begun anew from. "
    "Run this on a manager that is left, or restore a snapshot: `swarmctl cluster snapshot restore`."
)
HAS_MAJORITY = (
    "{reached} of the swarm's {all} managers can be reached, which is a majority: the swarm needs no force. "
    "Remove managers that are lost with `swarmctl node demote` and `swarmctl node rm`. To go on without the "
    "others all the same, add --force."
)
IN_A_SWARM = (
    "This node is part of a swarm, and a snapshot is restored on a node that is part of none. Either run "
    "`swarmctl swarm leave --force` first, or, to put this swarm back to what it was: on the other managers "
    "`swarmctl swarm leave --force`, here stop the daemon and run `swarmd recover --from-snapshot FILE`."
)


class Recovering:
    """The recovery of one daemon's membership."""

    def __init__(self, swarm: Swarm, recovery: Recovery) -> None:
        self._swarm = swarm
        self._recovery = recovery

    async def force_new(self, request: node_pb2.InitSwarmRequest) -> tuple[Member, Clusters]:
        """Go on with this node as the only manager; answers the member and what it knows of the swarm."""

        def resolve(known: str) -> str:
            return addresses.resolve(request.advertise_addr or known, addresses.interface_addresses())

        async def work() -> None:
            check_may_begin_anew(self._swarm.member, force=request.force)
            async with self._swarm.at_rest():
                await self._recovery.begin_anew(resolve)

        await self._swarm.insist("begin anew", work)
        member = self._swarm.member
        if member is None or member.managing is None:
            raise Unavailable(self._swarm.problem)
        return member, member.managing.cases.clusters

    async def restore(
        self, request: node_pb2.RestoreSwarmRequest, snapshot: bytes
    ) -> node_pb2.RestoreSwarmResponse:
        """Begin the swarm of a snapshot with this node as its only manager."""
        if self._swarm.state == "active":
            raise Refused(IN_A_SWARM)
        contents = unpack(snapshot, "given")
        address = addresses.resolve(request.advertise_addr, addresses.interface_addresses())
        listen = listen_address(request.listen_addr)
        credentials, memory = self._recovery.membership(contents, address=address, listen=listen)

        async def work() -> None:
            self._swarm.check_outside()
            await self._swarm.enter(
                credentials, memory, prepare=lambda memory: self._recovery.fill(contents, memory)
            )

        await self._swarm.insist("restore", work)
        return node_pb2.RestoreSwarmResponse(
            node_id=memory.node_id,
            address=address,
            cluster_id=contents.cluster.id,
            services=sum(isinstance(row, Service) for row in contents.rows),
            nodes=sum(isinstance(row, Node) for row in contents.rows),
        )


def check_may_begin_anew(member: Member | None, *, force: bool) -> None:
    """Raises when the others can be reached, or there is nothing to go on from.

    A membership that could not be taken up (another address, say) has nobody to ask: its disk decides.
    """
    if member is None:
        return
    if member.managing is None:
        raise NotManager(NO_MANAGER)
    status = member.managing.raft.status()
    reached = {*status.reachable, member.memory.node_id} & status.members.keys()
    alone = len(status.members) == 1
    if not force and not alone and is_majority(reached, status.members):
        raise Refused(HAS_MAJORITY.format(reached=len(reached), all=len(status.members)))
