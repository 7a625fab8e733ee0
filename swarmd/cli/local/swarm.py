"""A swarm made of a local cluster's nodes, through each node's own API.

This is all the local cluster knows of the rest of swarmctl: two ports, handed in by the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from swarmd.cli.local.core.plan import Cluster, Node, Role
from swarmd.cli.local.waiting import side_by_side, until
from swarmd.model.errors import SwarmError, Unavailable

CONTROL_PORT = 2377
PORTS = "swarmd.cli.local.ports"


class ClusterApi(Protocol):
    """Calls to one node's daemon.  ``socket`` is the path of its API socket; failures are ``SwarmError``."""

    def wait_ready(self, socket: str, timeout: float) -> None:
        """Return when the daemon answers; :class:`Unavailable` after ``timeout`` seconds."""
        ...

    def init(self, socket: str, advertise_addr: str) -> None:
        """Make the node the first manager of a new swarm."""
        ...

    def join_token(self, socket: str, role: Role) -> str:
        """The swarm's join token for ``role``."""
        ...

    def join(self, socket: str, token: str, remote_addr: str, advertise_addr: str) -> None:
        """Make the node a member; ``remote_addr`` is ``host:port`` of a manager."""
        ...

    def nodes(self, socket: str) -> list[tuple[str, str]]:
        """(host name, status) of each member, as ``node ls`` shows them."""
        ...


class Contexts(Protocol):
    """Where swarmctl keeps the names of the swarms it can talk to."""

    def save_context(self, name: str, host: str) -> None:
        """Make or replace a context; ``host`` is like ``unix:///path``."""
        ...

    def remove_context(self, name: str) -> None:
        """Remove it; nothing happens when there is none."""
        ...


class Ports(NamedTuple):
    """Both ports.  ``swarmctl`` puts a function that makes them into ``click.Context.meta[PORTS]``."""

    api: ClusterApi
    contexts: Contexts


def form_swarm(cluster: Cluster, socket_of: Callable[[Node], str], api: ClusterApi) -> None:
    """``swarm init`` on the first node, then join: managers one after another, workers side by side."""
    first, *others = cluster.nodes
    socket = socket_of(first)
    api.init(socket, first.address)
    tokens: dict[Role, str] = {node.role: "" for node in others}
    for role in tokens:
        tokens[role] = api.join_token(socket, role)

    def join(node: Node) -> None:
        api.join(socket_of(node), tokens[node.role], f"{first.address}:{CONTROL_PORT}", node.address)

    for node in others:
        if node.role == "manager":
            join(node)
    side_by_side(join, [node for node in others if node.role == "worker"])


def wait_until_ready(cluster: Cluster, socket: str, api: ClusterApi, *, seconds: float) -> None:
    """Return when the swarm shows every node as Ready; :class:`Unavailable` names those that are not."""
    missing = [node.name for node in cluster.nodes]
    last: SwarmError | None = None

    def all_ready() -> bool:
        nonlocal missing, last
        try:
            shown = {name for name, status in api.nodes(socket) if status.lower() == "ready"}
        except Unavailable as error:
            last = error
            return False
        missing = [node.name for node in cluster.nodes if node.name not in shown]
        return not missing

    if not until(all_ready, seconds=seconds, every=0.1):
        said = f" The last answer was: {last}" if last else ""
        raise Unavailable(f"Not Ready after {seconds:.0f} s: {', '.join(missing)}.{said}")
