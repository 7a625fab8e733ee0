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
        self._begun = agent_pb2.NetworkSnapshot()

    def read(self, message: agent_pb2.NetworkSnapshot) -> NetworkState | None:
        """What it says; None as long as more parts of it are to come, and for what a manager says that does
        not know yet what another has said.

        Raises :class:`Unavailable` for a difference to something else than this node has, and for a part
        without the one before; the next session begins with a whole.
        """
        if message.more or message.part:
            message = self._joined(message)
        if message.more or message.version < self._version:
            return None
        if message.since and message.since != self._version:
            raise Unavailable(
                f"the manager told the difference to version {message.since} of the mesh, but this node has "
                f"version {self._version}"
            )
        self._version = message.version
        return network_state(message)

    def _joined(self, part: agent_pb2.NetworkSnapshot) -> agent_pb2.NetworkSnapshot:
        """Everything up to this part."""
        begun, self._begun = self._begun, agent_pb2.NetworkSnapshot()
        if not part.part:
            begun = part
        elif begun.more and (begun.version, begun.part + 1) == (part.version, part.part):
            begun.MergeFrom(part)
            begun.more = part.more
        else:
            raise Unavailable(f"the manager told part {part.part} of the mesh without the one before it")
        if begun.more:
            self._begun = begun
        return begun
