"""Decide which routes every node serves on shared ports, and which certificates it needs for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from swarmd.manager.dispatcher.core.mesh import Backend, Mesh, Route
from swarmd.model.answering import answers
from swarmd.model.objects import Secret, Service, Task
from swarmd.model.replace import replace


def add(mesh: Mesh, services: Collection[Service], tasks: Iterable[Task], secrets: Iterable[Secret]) -> Mesh:
    """``mesh`` with routes, in a fixed order, and the certificates that they name; no other secret leaves."""
    routed = sorted(
        (one for one in services if any(port.is_route for port in one.ports)), key=lambda it: it.id
    )
    if not routed:
        return mesh
    alive = {peer.id for peer in mesh.nodes if peer.alive}
    by_service: dict[str, list[Task]] = {service.id: [] for service in routed}
    for task in tasks:
        if task.service_id in by_service and answers(task) and task.node_id in alive:
            by_service[task.service_id].append(task)
    known = {ref: row for row in secrets for ref in (row.name.lower(), row.id)}
    routes: list[Route] = []
    needed: dict[str, bytes] = {}
    for service in routed:
        for port in service.ports:
            if not (port.is_route and port.published):
                continue
            secret = known.get(port.tls) or known.get(port.tls.lower()) if port.tls else None
            if secret is not None:
                needed[secret.id] = secret.data
            backends = sorted(
                Backend(task.id, task.status.address, port.target, task.node_id, task.status.address6)
                for task in by_service[service.id]
            )
            routes.append(
                Route(
                    service.id,
                    service.spec.name,
                    port.published,
                    port.host.lower(),
                    f"/{port.path.strip('/')}",
                    # A secret that is gone serves nobody: never without TLS instead.
                    secret.id if secret is not None else port.tls,
                    tuple(backends),
                )
            )
    return replace(mesh, routes=tuple(routes), certificates=tuple(sorted(needed.items())))
