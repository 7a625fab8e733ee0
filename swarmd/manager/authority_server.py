"""The Authority service and the join lane: certificates, whoever of the managers is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from swarmd.manager.authority import Authority, Issued
from swarmd.model.errors import SwarmError
from swarmd.rpc import errors
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc, peer_pb2
from swarmd.security import peer

# gRPC method names are the protocol's.
# ruff: noqa: N802

LeaderChannel = Callable[[], Awaitable["grpc.aio.Channel | None"]]
"""None: this manager leads.  Raises Unavailable when nobody does."""


class AuthorityServer(agent_pb2_grpc.AuthorityServicer):
    """On the node port.  Raises nothing but gRPC statuses."""

    def __init__(self, cluster_id: Callable[[], str], authority: Callable[[], Authority]) -> None:
        self._cluster_id = cluster_id
        self._authority = authority

    async def Renew(self, request: agent_pb2.RenewRequest, context: Any) -> agent_pb2.RenewResponse:
        try:
            identity = peer.require(context, self._cluster_id())
            issued = self._authority().renew(identity.node_id, request.csr_pem)
        except SwarmError as error:
            await errors.abort(context, error)
        return agent_pb2.RenewResponse(
            certificate_pem=issued.certificate, root_ca=issued.root_ca, role=issued.role.value
        )

    async def Join(self, request: agent_pb2.ForwardedJoin, context: Any) -> agent_pb2.ForwardedJoinReply:
        try:
            peer.require(context, self._cluster_id(), manager=True)
            issued = await _issue(self._authority(), request, request.address)
        except SwarmError as error:
            await errors.abort(context, error)
        return agent_pb2.ForwardedJoinReply(
            root_ca=issued.root_ca,
            certificate_pem=issued.certificate,
            node_id=issued.node_id,
            cluster_id=issued.cluster_id,
            role=issued.role.value,
        )


class JoinLane:
    """What strangers may ask on the cluster port: the root certificate, a certificate for a token, and one
    for the certificate that they had and that has expired."""

    def __init__(
        self,
        authority: Authority,
        leader: LeaderChannel,
        root_ca: Callable[[], bytes],
        managers: Callable[[], list[agent_pb2.ManagerPeer]],
    ) -> None:
        self._authority = authority
        self._leader = leader
        self._root_ca = root_ca
        self._managers = managers

    async def answer(self, request: peer_pb2.JoinRequest, address: str) -> peer_pb2.JoinReply:
        """Never raises: errors travel in the reply."""
        if not request.csr_pem:
            return peer_pb2.JoinReply(root_ca_pem=self._root_ca())
        try:
            channel = await self._leader()
            if channel is None:
                return self._reply(await _issue(self._authority, request, address))
            return await self._forward(channel, request, address)
        except SwarmError as error:
            return peer_pb2.JoinReply(error_kind=error.kind, error=str(error))

    async def _forward(
        self, channel: grpc.aio.Channel, request: peer_pb2.JoinRequest, address: str
    ) -> peer_pb2.JoinReply:
        forwarded = agent_pb2.ForwardedJoin(
            token_secret=request.token_secret,
            csr_pem=request.csr_pem,
            address=address,
            renewal=request.renewal if request.HasField("renewal") else None,
        )
        with errors.calling():
            answer = await agent_pb2_grpc.AuthorityStub(channel).Join(forwarded, timeout=20)
        return peer_pb2.JoinReply(
            root_ca_pem=answer.root_ca,
            certificate_pem=answer.certificate_pem,
            node_id=answer.node_id,
            cluster_id=answer.cluster_id,
            role=answer.role,
            managers=self._members(),
        )

    def _reply(self, issued: Issued) -> peer_pb2.JoinReply:
        return peer_pb2.JoinReply(
            root_ca_pem=issued.root_ca,
            certificate_pem=issued.certificate,
            node_id=issued.node_id,
            cluster_id=issued.cluster_id,
            role=issued.role.value,
            managers=self._members(),
        )

    def _members(self) -> list[peer_pb2.PeerMember]:
        return [
            peer_pb2.PeerMember(node_id=manager.node_id, address=manager.raft_address)
            for manager in self._managers()
        ]


async def _issue(
    authority: Authority, request: peer_pb2.JoinRequest | agent_pb2.ForwardedJoin, address: str
) -> Issued:
    if request.HasField("renewal"):
        shown = request.renewal
        return authority.renew_expired(request.csr_pem, shown.certificate_pem, shown.signature)
    return await authority.join(request.token_secret, request.csr_pem, address=address)
