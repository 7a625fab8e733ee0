"""The swarm itself: how it begins, its settings, its tokens and its unlock key."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from swarmd.control.again import insist
from swarmd.control.core import networks, validate
from swarmd.kit.ids import NewId, random_bytes
from swarmd.model.addressing import POOL
from swarmd.model.errors import Invalid, OutOfSequence, Refused, Unavailable
from swarmd.model.objects import Cluster, Network, Node, NodeStatus
from swarmd.model.replace import replace
from swarmd.model.spec import ClusterSpec, NodeSpec
from swarmd.model.states import Availability, Role
from swarmd.security import tokens
from swarmd.security.keyring import unlock_key_text
from swarmd.store.core.transaction import Change, Put
from swarmd.store.store import Store

NewKey = Callable[[], bytes]
MIN_CERTIFICATE_LIFE = 3600.0
MAX_CERTIFICATE_LIFE = 20 * 365 * 86400.0
"""Seconds; the root certificate itself lives no longer."""


class Founding(msgspec.Struct, frozen=True, kw_only=True):
    """What ``swarm init`` decides before there is a store."""

    cluster_id: str
    node_id: str
    address: str
    root_ca: bytes
    ca_key: bytes
    gossip_key: bytes
    unlock_key: bytes = b""
    availability: Availability = Availability.ACTIVE
    spec: ClusterSpec = ClusterSpec()


def first_rows(founding: Founding, new_id: NewId) -> list[Change]:
    """The rows of a new swarm: itself, its first manager, the network of published ports."""
    cluster = Cluster(
        id=founding.cluster_id,
        spec=founding.spec,
        root_ca=founding.root_ca,
        ca_key=founding.ca_key,
        worker_token=new_id(),
        manager_token=new_id(),
        gossip_key=founding.gossip_key,
        unlock_key=founding.unlock_key,
    )
    node = Node(
        id=founding.node_id,
        spec=NodeSpec(role=Role.MANAGER, availability=founding.availability),
        role=Role.MANAGER,
        status=NodeStatus(address=founding.address),
        number=1,
    )
    ingress = Network(id=new_id(), name="ingress", ingress=True, subnet=str(POOL))
    return [Put(cluster), Put(node), Put(ingress)]


def check_spec(spec: ClusterSpec) -> None:
    """Raises Invalid naming the setting."""
    if not spec.certificate_expiry >= MIN_CERTIFICATE_LIFE:
        raise Invalid(f"cert-expiry must be at least 1h0m0s, not {spec.certificate_expiry:g}s")
    if spec.certificate_expiry > MAX_CERTIFICATE_LIFE:
        raise Invalid(f"cert-expiry must be at most 20 years, not {spec.certificate_expiry:g}s")
    validate.seconds("dispatcher-heartbeat", spec.heartbeat)
    if not spec.heartbeat:
        raise Invalid("dispatcher-heartbeat must be more than 0s")
    if spec.task_history < 0:
        raise Invalid(f"task-history-limit must be 0 or more, not {spec.task_history}")
    networks.pools(spec)


def with_settings(cluster: Cluster, spec: ClusterSpec) -> Cluster:
    """The row with other settings; it keeps in mind how long certificates of before may live."""
    longest = max(cluster.longest_expiry, cluster.spec.certificate_expiry, spec.certificate_expiry)
    return replace(cluster, spec=spec, longest_expiry=longest)


class Clusters:
    """The use cases of a swarm that exists; runs on the leader."""

    def __init__(self, store: Store, new_id: NewId, new_key: NewKey = lambda: random_bytes(32)) -> None:
        self._store = store
        self._new_id = new_id
        self._new_key = new_key

    def get(self) -> Cluster:
        """Raises Unavailable in the moment before the first transaction is applied."""
        cluster = self._store.cluster()
        if cluster is None:
            raise Unavailable("the swarm is not initialised yet; try again in a moment")
        return cluster

    def tokens(self) -> tuple[str, str]:
        """(worker, manager) join tokens."""
        cluster = self.get()
        return (
            tokens.make_token(cluster.root_ca, cluster.worker_token),
            tokens.make_token(cluster.root_ca, cluster.manager_token),
        )

    async def update(self, version: int, spec: ClusterSpec) -> None:
        """Replace the settings that were read at ``version``.

        Raises Invalid naming the setting, OutOfSequence when the swarm's row changed meanwhile.
        """
        check_spec(spec)
        cluster = self.get()
        if cluster.version != version:
            raise OutOfSequence("update out of sequence")
        key = cluster.unlock_key
        if spec.autolock != cluster.spec.autolock:
            key = self._new_key() if spec.autolock else b""
        if (spec, key) != (cluster.spec, cluster.unlock_key):
            await self._store.commit([Put(replace(with_settings(cluster, spec), unlock_key=key))])

    def unlock_key(self) -> str:
        """What unlocks a manager that was restarted; empty when managers are not locked."""
        key = self.get().unlock_key
        return unlock_key_text(key) if key else ""

    async def rotate_unlock_key(self) -> str:
        """A new key; managers that are down now still need the old one.  Raises Refused without autolock."""
        return await insist(self._rotate_unlock_key)

    async def _rotate_unlock_key(self) -> str:
        cluster = self.get()
        if not cluster.spec.autolock:
            raise Refused("cannot rotate because autolock is not turned on")
        key = self._new_key()
        await self._store.commit([Put(replace(cluster, unlock_key=key))])
        return unlock_key_text(key)

    async def rotate_token(self, role: str) -> str:
        """A new token for that role; the old one is dead at once."""
        return await insist(lambda: self._rotate(role))

    async def _rotate(self, role: str) -> str:
        cluster = self.get()
        secret = self._new_id()
        if role == "worker":
            fresh = replace(cluster, worker_token=secret)
        elif role == "manager":
            fresh = replace(cluster, manager_token=secret)
        else:
            raise Invalid(f'unknown role "{role}": use worker or manager')
        await self._store.commit([Put(fresh)])
        return tokens.make_token(cluster.root_ca, secret)
