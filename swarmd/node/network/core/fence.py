"""Decide which containers have to leave the network because others have their addresses now.

The managers give the addresses of a node that is dead to others.  When it comes back, the first it is told is
who has which address; that its tasks are to end comes behind, and they are given time for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from swarmd.node.network.port import Attachment, Endpoint, NetworkState


class Fence:
    """Remembers since which version each container is there: what was told before says nothing of it."""

    def __init__(self) -> None:
        self._since: dict[str, int] = {}
        self._endpoints: tuple[Endpoint, ...] = ()

    def outside(self, places: Iterable[Attachment], told: NetworkState) -> tuple[str, ...]:
        """Tasks one of whose addresses in a network is another's, as the managers say now."""
        here = tuple(places)
        before, self._since = self._since, {}
        for place in here:
            self._since[place.task_id] = before.get(place.task_id, told.version)
        if told.endpoints is self._endpoints:
            return ()
        self._endpoints = told.endpoints
        owners = {
            (network_id, address): place.task_id
            for place in here
            if self._since[place.task_id] < told.version
            for network_id, addresses in place.networks
            for address in addresses
        }
        if not owners:
            return ()
        told_of: dict[tuple[str, str], set[str]] = {}
        for endpoint in told.endpoints:
            for address in endpoint.addresses:
                if (endpoint.network_id, address) in owners:
                    told_of.setdefault((endpoint.network_id, address), set()).add(endpoint.task_id)
        return tuple(sorted({owners[key] for key, tasks in told_of.items() if owners[key] not in tasks}))
