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
from swarmd.model.objects import Cluster, Node, NodeStatus
from swarmd.model.spec import NodeSpec
from swarmd.model.states import Role
from swarmd.security import ca, issuing, proof, tokens
from swarmd.store import standing
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
            now = self._cluster()  # another root may sign since
            return issued if now is cluster else self._sign(now, row.id, grant.role, request_pem)

    def renew(self, node_id: str, request_pem: bytes) -> Issued:
        """A member's new certificate, with the role that its row asks for now.

        A demoted manager keeps its role until it has left the group: it could not be spoken to otherwise.
        """
        return self._renewed(self._member(node_id), request_pem)

    def renew_expired(self, request_pem: bytes, certificate_pem: bytes, signature: bytes) -> Issued:
        """The same for a node whose certificate has expired: see :mod:`swarmd.security.proof`.

        Only with the certificate that the node used last.  Raises Denied.
        """
        cluster = self._cluster()
        proven = proof.prove(request_pem, certificate_pem, signature, issuing.trusted(cluster))
        if proven.identity.cluster_id != cluster.id:
            raise Denied("the certificate shown is of another swarm")
        node = self._member(proven.identity.node_id)
        standing.check_newest(node, proven.valid_from)
        return self._renewed(node, request_pem)

    def renew_own(self, node_id: str, request_pem: bytes, since: float) -> Issued:
        """A manager's own certificate, good from ``since`` (seconds since 1970) on, when nobody else can
        renew it: every manager holds the authority's key.  On any manager.  Raises Denied."""
        return self._renewed(self._member(node_id), request_pem, since)

    def _member(self, node_id: str) -> Node:
        standing.check_not_removed(node_id, self._store)
        node = self._store.get(Node, node_id)
        if node is None:
            raise Denied(f"node {node_id} is not part of this swarm")
        return node

    def _renewed(self, node: Node, request_pem: bytes, since: float | None = None) -> Issued:
        role = Role.MANAGER if standing.is_manager(node) else Role.WORKER
        return self._sign(self._cluster(), node.id, role, request_pem, since)

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

    def _sign(
        self, cluster: Cluster, node_id: str, role: Role, request_pem: bytes, since: float | None = None
    ) -> Issued:
        certificate = issuing.signer(cluster).sign(
            request_pem,
            ca.Identity(node_id=node_id, role=role, cluster_id=cluster.id),
            now=self._clock.now(),
            life=cluster.spec.certificate_expiry,
            since=since,
        )
        return Issued(node_id, role, certificate, cluster.root_ca, cluster.id)
