"""The swarm's authority as users see it: its root certificate, and the way to another one.

The change itself is the leader's work (``manager/rotation``); here it is asked for and looked at.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from swarmd.control.again import insist
from swarmd.control.cluster import check_spec, with_settings
from swarmd.kit.clock import Clock
from swarmd.model.errors import Invalid, Refused, Unavailable
from swarmd.model.objects import CaRotation, Cluster, Node
from swarmd.model.replace import replace
from swarmd.model.states import NodeState, RotationPhase
from swarmd.security import ca, issuing, roots, tokens
from swarmd.store.core.transaction import Put
from swarmd.store.store import Store


class NewRoot(msgspec.Struct, frozen=True, kw_only=True):
    """What ``swarm ca --rotate`` asks for.  PEM; without a certificate the swarm makes a root of its own.

    ``certificate_expiry``: seconds, 0 = as it is.
    """

    certificate: bytes = b""
    key: bytes = b""
    certificate_expiry: float = 0.0


class Awaited(msgspec.Struct, frozen=True):
    """A node that a change of the root waits for, and why."""

    node: Node
    reason: str


class Progress(msgspec.Struct, frozen=True):
    """How far a change of the root is: numbers of nodes, and who is awaited."""

    nodes: int
    trusting: int
    certified: int
    awaited: tuple[Awaited, ...]


class Authorities:
    """The use cases; runs on the leader."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def progress(self) -> Progress | None:
        """None while the root does not change."""
        cluster = self._cluster()
        target = issuing.target(cluster)
        if target is None or cluster.rotation is None:
            return None
        return progress(self._store.all(Node), target, cluster.rotation.phase)

    def tls_status(self, node: Node) -> str:
        """``Ready``, or ``Needs Rotation`` while its certificate is not of the newest root."""
        target = issuing.target(self._cluster())
        return "Ready" if target is None or target.has_certified(node) else "Needs Rotation"

    async def rotate(self, wanted: NewRoot) -> str:
        """Begin the way to a new root; one that is under way turns to this one.  Answers its digest.

        Raises Invalid when what was given is no root, Refused when it is the present one.
        """
        now = self._clock.now()
        if bool(wanted.certificate) != bool(wanted.key):
            raise Invalid(
                "ca-cert and ca-key go together: give both, or neither for a root of the swarm's own"
            )
        if wanted.certificate:
            root, key = roots.given_root(wanted.certificate, wanted.key, now)
        else:
            root, key = ca.new_root(now)
        await insist(lambda: self._rotate(root, key, wanted.certificate_expiry, now))
        return tokens.ca_digest(root)

    async def _rotate(self, root: bytes, key: bytes, certificate_expiry: float, now: float) -> None:
        cluster = self._cluster()
        if root == cluster.root_ca or (cluster.rotation is not None and root == cluster.rotation.root_ca):
            raise Refused("ca-cert is the root that this swarm has, or is on its way to, already")
        if certificate_expiry:
            spec = replace(cluster.spec, certificate_expiry=certificate_expiry)
            check_spec(spec)
            cluster = with_settings(cluster, spec)
        rotation = CaRotation(
            root_ca=root,
            ca_key=key,
            cross_signed=roots.cross_sign(root, by_pem=cluster.root_ca, by_key_pem=cluster.ca_key, now=now),
            started_at=now,
        )
        await self._store.commit([Put(replace(cluster, rotation=rotation))])

    def _cluster(self) -> Cluster:
        cluster = self._store.cluster()
        if cluster is None:
            raise Unavailable("the swarm is not initialised yet; try again in a moment")
        return cluster


def progress(nodes: Iterable[Node], target: issuing.Target, phase: RotationPhase) -> Progress:
    """Counts, and a sentence about each node that is awaited."""
    members = sorted((node for node in nodes if not node.removed), key=lambda node: node.number)
    awaited = [(node, _reason(node, target, phase)) for node in members]
    return Progress(
        nodes=len(members),
        trusting=sum(target.is_trusted_by(node) for node in members),
        certified=sum(target.has_certified(node) for node in members),
        awaited=tuple(Awaited(node, reason) for node, reason in awaited if reason),
    )


def _reason(node: Node, target: issuing.Target, phase: RotationPhase) -> str:
    trusts, certified = target.is_trusted_by(node), target.has_certified(node)
    if trusts and (certified or phase is RotationPhase.TRUST):
        return ""
    if node.status.state is NodeState.DOWN:
        return "it is down: start it, or remove it with `swarmctl node rm`"
    return "it has no certificate of the new root yet" if trusts else "it does not trust the new root yet"
