"""The mesh as the leader tells it to nodes, kept up with the store service by service.

An event costs what it is about; a node that has heard of a version is told the difference to it.
"""

from __future__ import annotations

from collections.abc import Iterable

from swarmd.manager.dispatcher import routing
from swarmd.manager.dispatcher.core import routes
from swarmd.manager.dispatcher.core.mesh import Mesh, Peer, Port, build
from swarmd.manager.dispatcher.core.pieces import Pieces
from swarmd.model.objects import Node, Secret, Service, Task
from swarmd.model.replace import replace
from swarmd.rpc.v1 import agent_pb2
from swarmd.store.core.tables import Event
from swarmd.store.store import Store

KEPT_NODES, KEPT_NETWORKS, KEPT_ROUTES = "nodes", "networks", "routes"
"""In a snapshot's ``kept``: the nodes are as they were; so are networks with their services and endpoints; so
are routes with their certificates."""
DIFFERENCES = 4
"""Nodes of an older feature level take wholes only."""


class MeshBoard:
    """Of one leader's term."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pieces: Pieces[Mesh] = Pieces()
        self._peers: tuple[Peer, ...] = ()
        self._peers_at = 0
        self._routed: set[str] = set()
        self._routes_at = 0
        self.look_again()
        self.version = store.index
        """A version always means the same mesh, also to nodes that heard of it from another leader."""

    def look_again(self) -> bool:
        """At everything; answers whether nodes have to be told."""
        return self._look(None)

    def react(self, events: Iterable[Event]) -> bool:
        """At what these are about; answers whether nodes have to be told."""
        services: set[str] = set()
        for event in events:
            rows = [row for row in (event.old, event.new) if row is not None]
            if any(isinstance(row, Node) for row in rows) and self._peers != self._present():
                return self._look(None)
            services.update(row.id for row in rows if isinstance(row, Service))
            services.update(row.service_id for row in rows if isinstance(row, Task))
            if any(isinstance(row, Secret) for row in rows):
                services |= self._routed
        return bool(services) and self._look(services)

    def snapshot(self, node_id: str, since: int) -> agent_pb2.NetworkSnapshot:
        """What the node is to be told that knows version ``since``, or nothing (-1).

        A whole has ``since`` 0.
        """
        level = next((peer.level for peer in self._peers if peer.id == node_id), 0)
        changed = self._pieces.since(since) if since > 0 and level >= DIFFERENCES else None
        message = agent_pb2.NetworkSnapshot(version=self.version)
        pieces = self._pieces.whole() if changed is None else changed
        if changed is not None:
            message.since = since
            message.changed.extend(changed)
        if changed is None or self._peers_at > since:
            for peer in self._peers:
                message.nodes.add(id=peer.id, number=peer.number, address=peer.address, alive=peer.alive)
        else:
            message.kept.append(KEPT_NODES)
        for piece in pieces.values():
            for port in () if piece is None else piece.ports:
                if port.is_for(node_id, level):
                    _add(message, port)
        if changed is None or self._routes_at > since:
            routing.fill(message, self._routes())
        else:
            message.kept.append(KEPT_ROUTES)
        return message

    def _routes(self) -> Mesh:
        """The routes of every service with their certificates."""
        pieces = [self._pieces.get(one) or Mesh() for one in sorted(self._routed)]
        certificates = {name: pem for piece in pieces for name, pem in piece.certificates}
        return Mesh(
            routes=tuple(route for piece in pieces for route in piece.routes),
            certificates=tuple(sorted(certificates.items())),
        )

    def _present(self) -> tuple[Peer, ...]:
        return build(self._store.all(Node), (), ()).nodes

    def _look(self, services: set[str] | None) -> bool:
        """At these services, or at everything."""
        version, peers = self._store.index, self._peers
        if services is None:
            services = self._pieces.keys() | {service.id for service in self._store.all(Service)}
            peers = self._present()
        news = [one for one in services if self._put(one, version)]
        if peers != self._peers:
            self._peers, self._peers_at = peers, version
        elif not news:
            return False
        self.version = version
        return True

    def _put(self, service_id: str, version: int) -> bool:
        piece = self._piece(service_id)
        if not self._pieces.put(service_id, piece, version):
            return False
        was, now = service_id in self._routed, piece is not None and bool(piece.routes)
        if was or now:
            self._routes_at = version
        (self._routed.add if now else self._routed.discard)(service_id)
        return True

    def _piece(self, service_id: str) -> Mesh | None:
        """The part of one service; None when it publishes nothing."""
        service = self._store.get(Service, service_id)
        if service is None or not any(port.published for port in service.ports):
            return None
        tasks = self._store.tasks_of_service(service_id)
        on = {task.node_id for task in tasks}
        nodes = [node for one in on if (node := self._store.get(Node, one)) is not None]
        mesh = build(nodes, (service,), tasks)
        secrets = self._store.all(Secret) if any(port.tls for port in service.ports) else ()
        mesh = routes.add(mesh, (service,), tasks, secrets)
        return replace(mesh, nodes=())


def _add(message: agent_pb2.NetworkSnapshot, port: Port) -> None:
    target = message.ports.add(
        service_id=port.service_id,
        service_name=port.service_name,
        protocol=port.protocol,
        port=port.port,
        host_ip=port.host_ip,
        allow=port.allow,
        sticky=port.sticky,
        source=port.source,
    )
    for one in port.backends:
        target.backends.add(
            task_id=one.task_id,
            address=one.address,
            port=one.port,
            node_id=one.node_id,
            address6=one.address6,
        )
