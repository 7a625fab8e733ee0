"""The mesh as the managers last told it: read from their message, kept on disk for the next start."""

from __future__ import annotations

from pathlib import Path

import msgspec

from swarmd.model.addressing import block_of
from swarmd.model.replace import replace
from swarmd.node.network.port import Backend, NetworkState, NodeView, PublishedPort
from swarmd.rpc.v1 import agent_pb2
from swarmd.security.durable import write_durably


class MeshFile:
    """``<data dir>/mesh.json``.  Losing it costs nothing but the time until a manager is reached."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, state: NetworkState) -> None:
        """Raises Unavailable when the disk does not take it."""
        write_durably(self._path, msgspec.json.encode(state))

    def load(self) -> NetworkState | None:
        """None when there is none that can be read.  Version 0: what the managers say next is newer."""
        try:
            state = msgspec.json.decode(self._path.read_bytes(), type=NetworkState)
        except (OSError, msgspec.DecodeError):
            return None
        return replace(state, version=0)


def network_state(message: agent_pb2.NetworkSnapshot) -> NetworkState:
    """The mesh of a message, in the network's own words."""
    nodes = tuple(
        NodeView(
            id=node.id,
            number=node.number,
            address=node.address,
            block=block_of(node.number),
            alive=node.alive,
        )
        for node in message.nodes
    )
    ports = tuple(
        PublishedPort(
            service_id=port.service_id,
            service_name=port.service_name,
            protocol="udp" if port.protocol == "udp" else "tcp",
            port=port.port,
            backends=tuple(
                Backend(task_id=one.task_id, address=one.address, port=one.port, node_id=one.node_id)
                for one in port.backends
            ),
        )
        for port in message.ports
    )
    return NetworkState(version=message.version, nodes=nodes, ports=ports)
