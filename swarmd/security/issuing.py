"""Which root signs, which roots are trusted, and who is there already: read from the swarm's own row.

The root signs, and is trusted.  While it changes both are trusted, and at first the old root signs (phase
``trust``: nodes learn the new one), then the new one (``issue``), whose key goes along, certified by the
old one.
"""

from __future__ import annotations

import msgspec

from swarmd.model.objects import Cluster, Node
from swarmd.model.states import RotationPhase
from swarmd.security import ca, roots
from swarmd.security.tokens import ca_digest


class Signer(msgspec.Struct, frozen=True):
    """A root and its key; ``chain`` (PEM) goes along with what it signs."""

    root: bytes
    key: bytes
    chain: bytes = b""

    def sign(
        self,
        request_pem: bytes,
        identity: ca.Identity,
        *,
        now: float,
        life: float,
        since: float | None = None,
    ) -> bytes:
        """See :func:`swarmd.security.ca.sign`; the certificate comes with its chain."""
        certificate = ca.sign(
            request_pem,
            identity,
            root_pem=self.root,
            root_key_pem=self.key,
            now=now,
            life=life,
            since=since,
        )
        return certificate + self.chain


def signer(cluster: Cluster) -> Signer:
    """Who signs node certificates now."""
    rotation = cluster.rotation
    if rotation is not None and rotation.phase is RotationPhase.ISSUE:
        return Signer(rotation.root_ca, rotation.ca_key, rotation.cross_signed)
    return Signer(cluster.root_ca, cluster.ca_key)


def trusted(cluster: Cluster) -> bytes:
    """The bundle every node is to trust; the newest root is the last one."""
    if cluster.rotation is None:
        return cluster.root_ca
    return cluster.root_ca.rstrip() + b"\n" + cluster.rotation.root_ca


class Target(msgspec.Struct, frozen=True):
    """The root that a rotation leads to: how nodes name it."""

    digest: str
    key_id: str

    def is_trusted_by(self, node: Node) -> bool:
        """Whether the node said that it trusts this root."""
        return self.digest in node.status.certificate.trusts

    def has_certified(self, node: Node) -> bool:
        """Whether the node said that its certificate is of this root."""
        return node.status.certificate.issuer == self.key_id


def target(cluster: Cluster) -> Target | None:
    """None while the root does not change."""
    if cluster.rotation is None:
        return None
    root = cluster.rotation.root_ca
    return Target(ca_digest(root), roots.key_id(root))
