"""Who gets a certificate, and for which role.  Tokens decide at the join, the node's row afterwards.

A node's row is made before its certificate is handed out, so the dispatcher knows everybody it meets.
"""

from __future__ import annotations

import msgspec

from swarmd.kit.clock import Clock
from swarmd.kit.ids import NewId
from swarmd.manager.core import joins
from swarmd.manager.core.joins import Grant
from swarmd.model.errors import Conflict, Denied, OutOfSequence, Unavailable
from swarmd.model.objects import Cluster, Node, NodeStatus, RemovedNode
from swarmd.model.spec import NodeSpec
from swarmd.model.states import Role
from swarmd.security import ca, tokens
from swarmd.store.core.transaction import Put
from swarmd.store.store import Store


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

    async def join(self, secret: str, request_pem: bytes, *, address: str = "") -> Issued:
        """A node with a token becomes a member.  A use of the token and the node's row are one transaction.

        The same key asking again is the same join: its answer was lost.  Raises Denied for a token that is
        unknown, expired or used up, Invalid for an unreadable request.
        """
        cluster = self._cluster()
        while True:
            grant = joins.grant_of(secret, cluster, self._store.token_by_hash(tokens.secret_hash(secret)))
            key = ca.key_digest(request_pem)
            known = self._store.node_by_join_key(key)
            if known is not None:
                joins.check_again(known, grant)
                return self._sign(cluster, known.id, grant.role, request_pem)
            joins.check_usable(grant, self._clock.now())
            row = self._new_node(grant, key, address)
            issued = self._sign(cluster, row.id, grant.role, request_pem)
            try:
                await self._store.commit([Put(row), *grant.spent()])
            except (Conflict, OutOfSequence):
                continue  # another join took the number, a use of the token, or was this one
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

    def _new_node(self, grant: Grant, key: str, address: str) -> Node:
        return Node(
            id=self._new_id(),
            spec=NodeSpec(labels=grant.labels, role=grant.role, availability=grant.availability),
            role=grant.role,
            status=NodeStatus(address=address),
            number=joins.free_number(self._store.all(Node)),
            join_key=key,
            join_token=grant.token_id,
        )

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
