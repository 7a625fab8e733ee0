"""A new certificate for a node that has one."""

from __future__ import annotations

import datetime

import grpc

from swarmd.model.errors import Denied
from swarmd.rpc import errors
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc
from swarmd.security import ca
from swarmd.security.identity import Credentials

EARLIEST, LATEST = 0.5, 0.8
"""Renewal happens at a random point of this part of a certificate's life, as in Swarm."""


def renewal_due(credentials: Credentials, fraction: float) -> float:
    """When to renew, seconds since 1970; ``fraction`` is a uniform random number in [0, 1)."""
    start, end = ca.validity(credentials.certificate)
    return start + (end - start) * (EARLIEST + (LATEST - EARLIEST) * fraction)


def certificate_problems(current: Credentials, now: float, due: float, reason: str) -> list[str]:
    """Sentences about a certificate that has expired, or that could not be renewed when it was ``due``."""
    _, end = ca.validity(current.certificate)
    until = datetime.datetime.fromtimestamp(end, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    if now >= end:
        return [
            f"this node's certificate expired on {until}, and nobody in the swarm talks to it any more: "
            "check this machine's clock; if it is right, run `swarmctl swarm leave --force` and join again"
        ]
    if now >= due and reason:
        return [f"this node's certificate, good until {until}, could not be renewed yet: {reason}"]
    return []


async def renew(current: Credentials, leader: grpc.aio.Channel) -> Credentials:
    """Ask the leader; the role is the one that the node's row says.  Raises SwarmError."""
    key = ca.new_key()
    request = agent_pb2.RenewRequest(csr_pem=ca.new_request(key))
    with errors.calling():
        answer = await agent_pb2_grpc.AuthorityStub(leader).Renew(request, timeout=10)
    if not ca.is_key_of(key, answer.certificate_pem):
        raise Denied("the renewed certificate is for another key than this node's")
    fresh = Credentials(key=key, certificate=answer.certificate_pem, root=current.root)
    if not ca.is_signed_by(fresh.certificate, current.root):
        raise Denied("the renewed certificate is not signed by this swarm's root")
    return fresh
