"""Who gets a certificate, and for which role.  Tokens decide at the join, the node's row afterwards.

A node's row is made before its certificate is handed out, so the dispatcher knows everybody it meets.
"""

from __future__ import annotations

import msgspec

from swarmd.kit.clock import Clock
from swarmd.kit.ids import NewId
from swarmd.model.errors import Conflict, Denied, Invalid, OutOfSequence, Unavailable
from swarmd.model.objects import Cluster, Node, NodeStatus, RemovedNode
from swarmd.model.spec import NodeSpec
from swarmd.model.states import Role
from swarmd.security import ca, tokens
from swarmd.store.core.transaction import Put
from swarmd.store.store import Store

MAX_NODES = 16_383
"""Address blocks of /24 in 10.128.0.0/10, without the first."""


class Issued(msgspec.Struct, frozen=True):
    """A certificate and what its holder has to know."""

    node_id: str
    role: Role
    certificate: bytes
    root_ca: bytes
    cluster_id: str


class Authority:
    """Signs on the leader only: it writes node rows."""

    def __init__(self, store: Store, clock: Clock, new_id: NewId) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id

    async def join(self, secret: str, request_pem: bytes, *, node_id: str = "", address: str = "") -> Issued:
        """A node with a token becomes a member.  A retry with the node id it was given is the same join.

        Raises Denied for a wrong token, or for the id of a node that is at work already: a token is no
        proof of being that node.  Raises Invalid for an unreadable request.
        """
        cluster = self._cluster()
        role = _role_of(secret, cluster)
        while True:
            known = self._store.get(Node, node_id) if node_id else None
            if known is not None and not _may_retry(known, role):
                raise Denied(f"node {node_id} is part of this swarm already: join without its id")
            row = known or self._new_node(role, address)
            issued = self._sign(cluster, row.id, role, request_pem)
            if known is not None:
                return issued
            try:
                await self._store.commit([Put(row)])
            except (Conflict, OutOfSequence):
                continue  # another join took the number
            return issued

    def renew(self, node_id: str, request_pem: bytes) -> Issued:
        """A member's new certificate, with the role that its row asks for now.

        A demoted manager keeps its role until it has left the group: it could not be spoken to otherwise.
        """
        if self._store.get(RemovedNode, node_id) is not None:
            raise Denied(f"node {node_id} was removed from the swarm")
        node = self._store.get(Node, node_id)
        if node is None:
            raise Denied(f"node {node_id} is not part of this swarm")
        role = Role.MANAGER if Role.MANAGER in (node.spec.role, node.role) else Role.WORKER
        return self._sign(self._cluster(), node_id, role, request_pem)

    def _cluster(self) -> Cluster:
        cluster = self._store.cluster()
        if cluster is None:
            raise Unavailable("the swarm is not initialised yet; try again in a moment")
        return cluster

    def _new_node(self, role: Role, address: str) -> Node:
        return Node(
            id=self._new_id(),
            spec=NodeSpec(role=role),
            role=role,
            status=NodeStatus(address=address),
            number=self._free_number(),
        )

    def _free_number(self) -> int:
        taken = {node.number for node in self._store.all(Node)}
        for number in range(1, MAX_NODES + 1):
            if number not in taken:
                return number
        raise Invalid(f"the swarm has {MAX_NODES} nodes, the most its address pool allows")

    def _sign(self, cluster: Cluster, node_id: str, role: Role, request_pem: bytes) -> Issued:
        certificate = ca.sign(
            request_pem,
            ca.Identity(node_id=node_id, role=role, cluster_id=cluster.id),
            root_pem=cluster.root_ca,
            root_key_pem=cluster.ca_key,
            now=self._clock.now(),
            life=cluster.spec.certificate_expiry,
        )
        return Issued(node_id, role, certificate, cluster.root_ca, cluster.id)


def _may_retry(node: Node, role: Role) -> bool:
    """A join may be repeated until the node has first been heard of, and for the same role only."""
    return node.spec.role is role and not node.description.hostname


def _role_of(secret: str, cluster: Cluster) -> Role:
    if tokens.same_secret(secret, cluster.manager_token):
        return Role.MANAGER
    if tokens.same_secret(secret, cluster.worker_token):
        return Role.WORKER
    raise Denied("A valid join token is necessary to join this cluster")
