"""Who is calling: the identity in the certificate of a gRPC call."""

from __future__ import annotations

from typing import Any

from swarmd.model.errors import Denied
from swarmd.model.states import Role
from swarmd.security.ca import Identity, identity_of


def certificate(context: Any) -> bytes:
    """The caller's certificate, PEM.  Raises Denied without one."""
    auth: dict[str, Any] = context.auth_context()
    certificates = auth.get("x509_pem_cert")
    if not certificates:
        raise Denied("this call needs a node certificate")
    return bytes(certificates[0])


def caller(context: Any) -> Identity:
    """The caller's identity.  Raises Denied without a node certificate."""
    return identity_of(certificate(context))


def require(context: Any, cluster_id: str, *, manager: bool = False) -> Identity:
    """The caller, who must be of this swarm, and a manager where only managers may call."""
    identity = caller(context)
    if identity.cluster_id != cluster_id:
        raise Denied("the caller's certificate is of another swarm")
    if manager and identity.role is not Role.MANAGER:
        raise Denied("only managers may make this call")
    return identity
