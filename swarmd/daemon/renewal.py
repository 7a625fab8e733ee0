"""A new certificate for a node that has one: the ways to it, and what is said when there is none."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

import grpc

from swarmd.daemon.joining import ask_managers
from swarmd.manager.authority import Authority
from swarmd.model.errors import Denied
from swarmd.rpc import errors
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc, peer_pb2
from swarmd.security import ca, proof, roots
from swarmd.security.identity import Credentials

EARLIEST, LATEST = 0.5, 0.8
"""Renewal happens at a random point of this part of a certificate's life, as in Swarm."""

ROOT_WARNING = 180 * 86400.0
"""Seconds before the end of the last root from which on it is warned about."""


def renewal_due(credentials: Credentials, fraction: float) -> float:
    """When to renew, seconds since 1970; ``fraction`` is a uniform random number in [0, 1)."""
    start, end = ca.validity(credentials.certificate)
    return start + (end - start) * (EARLIEST + (LATEST - EARLIEST) * fraction)


def certificate_problems(current: Credentials, now: float, due: float, reason: str) -> list[str]:
    """Sentences about a certificate that has expired, or that could not be renewed when it was ``due``, and
    about a root that ends soon."""
    problems: list[str] = []
    _, end = ca.validity(current.certificate)
    if now >= end:
        problems.append(
            f"this node's certificate expired on {_date(end)}: it may only be renewed now, and that did not "
            f"happen yet: {reason or 'it is being tried'}; check this machine's clock"
        )
    elif now >= due and reason:
        problems.append(
            f"this node's certificate, good until {_date(end)}, could not be renewed yet: {reason}"
        )
    root_end = max(ca.validity(root)[1] for root in roots.split(current.root))
    if now >= root_end - ROOT_WARNING:
        verb = "expired" if now >= root_end else "expires"
        problems.append(
            f"the swarm's root certificate {verb} on {_date(root_end)}: replace it with "
            "`swarmctl swarm ca --rotate`"
        )
    return problems


async def renew(current: Credentials, leader: grpc.aio.Channel) -> Credentials:
    """Ask the leader; the role is the one that the node's row says.  Raises SwarmError."""
    key = ca.new_key()
    request = agent_pb2.RenewRequest(csr_pem=ca.new_request(key))
    with errors.calling():
        answer = await agent_pb2_grpc.AuthorityStub(leader).Renew(request, timeout=10)
    return _checked(current, key, answer.certificate_pem)


async def renew_expired(current: Credentials, cluster_ports: Iterable[str]) -> Credentials:
    """Ask one manager after another, with proof of the key of a certificate that has expired.

    Raises SwarmError: what the last one said.
    """
    key = ca.new_key()
    csr = ca.new_request(key)
    shown = peer_pb2.RenewalProof(
        certificate_pem=current.certificate, signature=proof.sign_request(csr, current.key)
    )
    request = peer_pb2.JoinRequest(csr_pem=csr, renewal=shown)
    answer = await ask_managers(list(cluster_ports), request, current.root)
    return _checked(current, key, answer.certificate_pem)


def renew_as_manager(current: Credentials, authority: Authority) -> Credentials:
    """A manager's own store holds the authority.  Raises Denied for a manager that it knows to be none.

    It is good from when the present one was: a clock that ran ahead may be set right again.
    """
    key = ca.new_key()
    begin, _ = ca.validity(current.certificate)
    issued = authority.renew_own(current.identity.node_id, ca.new_request(key), begin)
    return _checked(current, key, issued.certificate)


def _checked(current: Credentials, key: bytes, certificate: bytes) -> Credentials:
    if not ca.is_key_of(key, certificate):
        raise Denied("the renewed certificate is for another key than this node's")
    if not roots.leads_to(certificate, current.root):
        raise Denied("the renewed certificate is not signed by this swarm's root")
    return Credentials(key=key, certificate=certificate, root=current.root)


def _date(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
