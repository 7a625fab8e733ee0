"""The store as whoever gives addresses sees it."""

from __future__ import annotations

from swarmd.manager.allocator.core.addresses import View
from swarmd.manager.allocator.core.standing import Standing
from swarmd.model.objects import AddressAllocation, Cluster, Network, Node
from swarmd.store.store import Store


def view(store: Store, standing: Standing) -> View:
    """For one :class:`~swarmd.manager.allocator.core.addresses.Turn`."""
    cluster = store.cluster() or Cluster(id="")
    return View(
        row=lambda key: store.get(AddressAllocation, key),
        network=lambda network_id: store.get(Network, network_id),
        networks=lambda: store.all(Network),
        nodes=lambda: store.all(Node),
        settings=cluster.spec,
        newest=standing.newest,
        asked=standing.asked,
    )
