"""The mesh as a node knows it, from wholes and differences.  What did not change stays the same object."""

from __future__ import annotations

from itertools import chain

from swarmd.daemon.mesh_file import network_state
from swarmd.model.errors import Unavailable
from swarmd.model.replace import replace
from swarmd.node.network.port import NetworkState, PublishedPort
from swarmd.rpc.v1 import agent_pb2

_PARTS = {
    "nodes": ("nodes",),
    "networks": ("networks", "services", "endpoints"),
    "routes": ("routes", "certificates"),
}
"""What ``kept`` may name, and the fields of the state it means."""


class MeshReader:
    """Of one node, across its sessions."""

    def __init__(self) -> None:
        self._state = NetworkState(version=0, nodes=(), ports=())
        self._ports: dict[str, tuple[PublishedPort, ...]] = {}

    def read(self, message: agent_pb2.NetworkSnapshot) -> NetworkState:
        """The state as it is with this message.

        Raises :class:`Unavailable` for a difference to something else than this node has; the next session
        begins with a whole.
        """
        if message.since and message.since != self._state.version:
            raise Unavailable(
                f"the manager told the difference to version {message.since} of the mesh, but this node has "
                f"version {self._state.version}"
            )
        told = network_state(message)
        ports = _by_service(told.ports)
        fresh = {**self._ports, **dict.fromkeys(message.changed, ())} if message.since else {}
        fresh.update({one: _same(self._ports.get(one, ()), several) for one, several in ports.items()})
        self._ports = {one: several for one, several in fresh.items() if several}
        kept = {field: getattr(self._state, field) for part in message.kept for field in _PARTS.get(part, ())}
        self._state = replace(told, ports=tuple(chain.from_iterable(self._ports.values())), **kept)
        return self._state


def _by_service(ports: tuple[PublishedPort, ...]) -> dict[str, tuple[PublishedPort, ...]]:
    found: dict[str, list[PublishedPort]] = {}
    for port in ports:
        found.setdefault(port.service_id, []).append(port)
    return {one: tuple(several) for one, several in found.items()}


def _same(before: tuple[PublishedPort, ...], after: tuple[PublishedPort, ...]) -> tuple[PublishedPort, ...]:
    return before if before == after else after
