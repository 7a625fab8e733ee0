"""Single containers as the managers know them: of no service, in networks of the swarm."""

from __future__ import annotations

from swarmd.model.network import ContainerNetwork
from swarmd.model.objects import Row


class SingleContainer(Row, frozen=True, kw_only=True):
    """A container of no service that is in networks of the swarm, as its node said (id: the container's).

    ``up``: it has its interface; it keeps its addresses without.
    """

    name: str
    node_id: str
    networks: tuple[ContainerNetwork, ...] = ()
    up: bool = False
