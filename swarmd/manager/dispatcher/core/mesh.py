"""Decide what every node's mesh looks like: published ports and the tasks that answer them.

A task answers from the moment it runs until it is told to stop: it leaves the mesh before its container
gets the stop signal, so that no request meets a closed door.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from swarmd.model.answering import answers
from swarmd.model.objects import Node, Service, Task
from swarmd.model.spec import PortSpec
from swarmd.model.states import NodeState

_PARTICULAR = 4
"""The feature level of nodes that understand everything a port can ask for."""


class Backend(msgspec.Struct, frozen=True, order=True):
    """A task behind a published port."""

    task_id: str
    address: str
    port: int
    node_id: str
    address6: str = ""


class Port(msgspec.Struct, frozen=True):
    """A published port and everything behind it.  ``node_id``: only this node opens it; "" = every node.

    The rest is as in :class:`~swarmd.model.spec.PortSpec`; ``source`` is the service's ingress-source.
    """

    service_id: str
    service_name: str
    protocol: str
    port: int
    backends: tuple[Backend, ...]
    node_id: str = ""
    host_ip: str = ""
    allow: tuple[str, ...] = ()
    sticky: bool = False
    source: str = ""

    def is_for(self, node_id: str, level: int) -> bool:
        """Whether this node opens it.  One of an older feature level would ignore who may connect, and where:
        it does not."""
        particular = self.host_ip or self.allow or self.source or self.protocol == "sctp"
        return self.node_id in ("", node_id) and (level >= _PARTICULAR or not particular)


class Route(msgspec.Struct, frozen=True):
    """HTTP for a host name and a path prefix, on a port that services share, with what answers it.

    ``tls``: id of the certificate; empty: none.
    """

    service_id: str
    service_name: str
    port: int
    host: str
    path: str
    tls: str
    backends: tuple[Backend, ...]


class Peer(msgspec.Struct, frozen=True):
    """A node as the others' overlays know it."""

    id: str
    number: int
    address: str
    alive: bool
    level: int = 0


class Mesh(msgspec.Struct, frozen=True):
    """The whole, compared by value: what did not change is not sent."""

    nodes: tuple[Peer, ...] = ()
    ports: tuple[Port, ...] = ()
    routes: tuple[Route, ...] = ()
    certificates: tuple[tuple[str, bytes], ...] = ()


def build(nodes: Iterable[Node], services: Iterable[Service], tasks: Iterable[Task]) -> Mesh:
    """The mesh of the present rows, in a fixed order."""
    peers = {
        node.id: Peer(
            node.id,
            node.number,
            node.status.address,
            node.status.state is not NodeState.DOWN,
            node.description.feature_level,
        )
        for node in sorted(nodes, key=lambda node: node.number)
        if node.number and node.status.address
    }
    answering: dict[str, list[Task]] = {}
    for task in tasks:
        if answers(task) and task.node_id in peers and peers[task.node_id].alive:
            answering.setdefault(task.service_id, []).append(task)
    ports = tuple(
        opened
        for service in sorted(services, key=lambda service: service.id)
        for port in service.ports
        if port.published and not port.is_route
        for opened in _opened(service, port, answering.get(service.id, []))
    )
    return Mesh(nodes=tuple(peers.values()), ports=ports)


def _opened(service: Service, port: PortSpec, tasks: list[Task]) -> list[Port]:
    """Everywhere for all tasks, or on the node of each task for that task alone."""

    def opened(backends: list[Backend], node_id: str) -> Port:
        return Port(
            service.id,
            service.spec.name,
            port.protocol,
            port.published,
            tuple(sorted(backends)),
            node_id,
            host_ip=port.host_ip,
            allow=port.allow,
            sticky=port.sticky,
            source=service.spec.ingress_source,
        )

    backends = [
        Backend(task.id, task.status.address, port.target, task.node_id, task.status.address6)
        for task in tasks
    ]
    if port.mode == "ingress":
        return [opened(backends, "")]
    return [opened([backend], backend.node_id) for backend in sorted(backends)]
