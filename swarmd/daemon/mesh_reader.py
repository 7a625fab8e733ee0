"""The mesh as managers tell it to a node: each message in the network's own words, in an order that fits."""

from __future__ import annotations

from swarmd.daemon.mesh_file import network_state
from swarmd.model.errors import Unavailable
from swarmd.node.network.port import NetworkState
from swarmd.rpc.v1 import agent_pb2


class MeshReader:
    """Of one node, across its sessions."""

    def __init__(self) -> None:
        self._version = 0

    def read(self, message: agent_pb2.NetworkSnapshot) -> NetworkState | None:
        """What it says; None for what a manager says that does not know yet what another has said.

        Raises :class:`Unavailable` for a difference to something else than this node has; the next session
        begins with a whole.
        """
        if message.version < self._version:
            return None
        if message.since and message.since != self._version:
            raise Unavailable(
                f"the manager told the difference to version {message.since} of the mesh, but this node has "
                f"version {self._version}"
            )
        self._version = message.version
        return network_state(message)
