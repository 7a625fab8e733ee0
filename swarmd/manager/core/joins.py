"""Decide about a join: what the token gives, whether it was granted before, which number is free."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from swarmd.model.errors import Denied, Invalid, Refused
from swarmd.model.objects import Cluster, JoinToken, Node
from swarmd.model.replace import replace
from swarmd.model.states import Availability, Role
from swarmd.security import tokens
from swarmd.store.core.transaction import Put

MAX_NODES = 16_383
"""Address blocks of /24 in 10.128.0.0/10, without the first."""

MAX_UNHEARD = 1000
"""Nodes that have a certificate and never said a word.  A script that joins in circles stops here."""

UNKNOWN = "A valid join token is necessary to join this cluster"
EXPIRED = "this join token has expired: ask for a new one (swarmctl swarm token create)"
USED_UP = (
    "this join token has been used as often as it may be: ask for a new one (swarmctl swarm token create)"
)


class Grant(msgspec.Struct, frozen=True):
    """What a token gives; ``token`` None: one of the swarm's two standing tokens."""

    role: Role
    labels: dict[str, str] = {}
    availability: Availability = Availability.ACTIVE
    token: JoinToken | None = None

    @property
    def token_id(self) -> str:
        return self.token.id if self.token is not None else ""

    def spent(self) -> list[Put]:
        """The change that one use of the token is."""
        return [] if self.token is None else [Put(replace(self.token, uses=self.token.uses + 1))]


def grant_of(secret: str, cluster: Cluster, token: JoinToken | None) -> Grant:
    """``token``: the row with the hash of this secret, if there is one.  Raises Denied for an unknown one."""
    if tokens.same_secret(secret, cluster.manager_token):
        return Grant(Role.MANAGER)
    if tokens.same_secret(secret, cluster.worker_token):
        return Grant(Role.WORKER)
    if token is None:
        raise Denied(UNKNOWN)
    return Grant(token.role, token.labels, token.availability, token)


def check_usable(grant: Grant, now: float) -> None:
    """Raises Denied for a token whose time is over or which has no uses left."""
    if grant.token is None:
        return
    if grant.token.is_expired(now):
        raise Denied(EXPIRED)
    if grant.token.is_used_up:
        raise Denied(USED_UP)


def check_again(known: Node, grant: Grant) -> None:
    """Raises Denied unless ``known``, which joined with this key, may be given its certificate once more.

    It may until it has first been heard of: its answer was lost.  Afterwards a key that it may have replaced
    long ago proves nothing.
    """
    same = known.spec.role is grant.role and known.join_token == grant.token_id
    if not same or known.description.hostname:
        raise Denied(f"node {known.id} is part of this swarm already with this key: join with a new one")


def free_number(nodes: Collection[Node]) -> int:
    """For a node that is to be added.  Raises Invalid, Refused when there is no room."""
    unheard = sum(1 for node in nodes if not node.description.hostname)
    if unheard >= MAX_UNHEARD:
        raise Refused(
            f"{unheard} nodes have joined this swarm and never been heard of: "
            "it takes no more until they are, or are removed (swarmctl node rm)"
        )
    taken = {node.number for node in nodes}
    for number in range(1, MAX_NODES + 1):
        if number not in taken:
            return number
    raise Invalid(f"the swarm has {MAX_NODES} nodes, the most its address pool allows")
