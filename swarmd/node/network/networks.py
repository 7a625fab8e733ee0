"""What the managers last said of the networks of this node's tasks, and what was made of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from msgspec import Struct

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import until
from swarmd.model.errors import Refused, Unavailable
from swarmd.node.mesh.core.table import Tables, joined, node_tables
from swarmd.node.network.core import networks
from swarmd.node.network.core.carrying import CarrierPeer
from swarmd.node.network.core.networks import Spread
from swarmd.node.network.core.peers import Peers, peers, secured
from swarmd.node.network.port import Attachment, NetworkState, NetworkView

TOLD_LIMIT = 10.0
"""Seconds a container waits for its networks to be made on this node."""


class Place(Struct, frozen=True):
    """What this node knows besides: ids of the nodes that can be reached, what fits into the underlay's
    packets (bytes), whether it has IPv6."""

    alive: frozenset[str]
    inner: int
    ipv6: bool


class Plan(Struct, frozen=True):
    """What the kernel is to hold for one snapshot, and what it is made ``of``.  ``abandoned``: see
    :func:`networks.abandoned`."""

    of: tuple[object, ...]
    views: Mapping[str, NetworkView]
    clashes: Mapping[str, str]
    buckets: Spread
    abandoned: tuple[str, ...]
    tables: Tables
    peers: Peers
    secured: Peers
    carried: tuple[CarrierPeer, ...]
    encrypts: bool


class Networks:
    """One per node.  A :class:`Plan` counts as made after :meth:`made`."""

    def __init__(self, node_id: str, clock: Clock) -> None:
        self._node_id = node_id
        self._clock = clock
        self._news = asyncio.Event()
        self._made: Plan | None = None

    def stands(self, told: NetworkState, place: Place) -> bool:
        """Whether what was made last is what would be made of this."""
        return self._made is not None and self._made.of == _of(told, place)

    def plan(self, told: NetworkState, place: Place) -> Plan:
        """Decide; may take milliseconds for thousands of tasks."""
        alive, inner, ipv6 = place.alive, place.inner, place.ipv6
        found = networks.usable(told)
        ours = {network.id: network for network in found.networks}
        endpoints = tuple(one for one in told.endpoints if one.network_id in ours)
        services = tuple(one for one in told.services if one.network_id in ours)
        before = self._made.buckets if self._made else {}
        buckets = networks.spread(services, endpoints, alive, before)
        entries, carried = secured(told.nodes, self._node_id, found.networks, endpoints, ipv6=ipv6)
        subnets = tuple(subnet for network in found.networks for subnet in network.subnets)
        return Plan(
            of=_of(told, place),
            views=ours,
            clashes=found.clashes,
            buckets=buckets,
            abandoned=networks.abandoned(before, buckets),
            tables=joined(
                node_tables(told.nodes, self._node_id, subnets),
                networks.virtual_tables(buckets),
                networks.network_tables(
                    found.networks, endpoints, told.nodes,
                    virtual=buckets, alive=alive, self_id=self._node_id,
                ),
            ),
            peers=peers(
                told.nodes, self._node_id, found.networks, endpoints, inner=inner, ipv6=ipv6
            ),
            secured=entries,
            carried=carried,
            encrypts=any(network.encrypted for network in found.networks),
        )  # fmt: skip

    def made(self, plan: Plan) -> None:
        """The kernel holds it now."""
        self._made = plan
        self._news.set()

    def forget(self) -> None:
        self._made = None

    @property
    def views(self) -> Mapping[str, NetworkView]:
        """The networks that are made, by id."""
        return self._made.views if self._made else {}

    def local(self, attachments: Iterable[Attachment]) -> Tables:
        """What depends on the containers here.  Nothing before the first plan: the kernel still knows it."""
        return networks.inward(attachments, self._made.views) if self._made else {}

    async def known(self, wanted: Iterable[str]) -> None:
        """Wait until these networks are made here; the managers tell of them when they assign the first task.

        Raises :class:`Refused` for one that clashes, :class:`Unavailable` when it takes too long.
        """
        end = self._clock.monotonic() + TOLD_LIMIT
        for network_id in wanted:
            while network_id not in self.views:
                if self._made and network_id in self._made.clashes:
                    raise Refused(self._made.clashes[network_id])
                left = end - self._clock.monotonic()
                if left <= 0:
                    raise Unavailable(
                        f"this node was not told of network {network_id} within {TOLD_LIMIT:.0f} seconds"
                    )
                self._news.clear()
                await until(self._clock.sleep(left), self._news)

    def problems(self) -> tuple[str, ...]:
        return tuple(self._made.clashes.values()) if self._made else ()


def _of(told: NetworkState, place: Place) -> tuple[object, ...]:
    """Compared in no time while all of it is the same objects."""
    return told.nodes, told.networks, told.services, told.endpoints, place
