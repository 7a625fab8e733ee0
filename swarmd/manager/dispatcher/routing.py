"""Routes on the wire, as every node is told them."""

from __future__ import annotations

from swarmd.manager.dispatcher.core.mesh import Mesh
from swarmd.rpc.v1 import agent_pb2


def fill(message: agent_pb2.NetworkSnapshot, mesh: Mesh) -> None:
    """The routes and certificates of ``mesh``: the same for every node."""
    for route in mesh.routes:
        target = message.routes.add(
            service_id=route.service_id,
            service_name=route.service_name,
            port=route.port,
            host=route.host,
            path=route.path,
            tls=route.tls,
        )
        for one in route.backends:
            target.backends.add(
                task_id=one.task_id,
                address=one.address,
                port=one.port,
                node_id=one.node_id,
                address6=one.address6,
            )
    for name, pem in mesh.certificates:
        message.certificates.add(id=name, pem=pem)
