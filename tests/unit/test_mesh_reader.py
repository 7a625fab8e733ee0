"""A node's mesh from wholes and differences."""

from __future__ import annotations

import pytest

from swarmd.daemon.mesh_reader import MeshReader
from swarmd.model.errors import Unavailable
from swarmd.node.network.port import NetworkState
from swarmd.rpc.v1 import agent_pb2


def message(
    version: int, *ports: tuple[str, int], since: int = 0, changed: str = ""
) -> agent_pb2.NetworkSnapshot:
    """A snapshot with (service, port) of each port and one node, which a difference leaves out."""
    made = agent_pb2.NetworkSnapshot(version=version, since=since, changed=changed.split())
    for service, port in ports:
        added = made.ports.add(service_id=service, service_name=service, protocol="tcp", port=port)
        added.backends.add(task_id=f"t-{service}", address="10.128.1.1", port=80, node_id="n1")
    if since:
        made.kept.append("nodes")
    else:
        made.nodes.add(id="n1", number=1, address="172.30.0.1", alive=True)
    return made


def shown(state: NetworkState) -> list[tuple[str, int]]:
    return sorted((port.service_id, port.port) for port in state.ports)


def test_a_difference_replaces_the_ports_of_the_services_it_names_and_leaves_the_rest_alone() -> None:
    reader = MeshReader()
    before = reader.read(message(1, ("a", 80), ("b", 81), ("b", 82), ("c", 83)))
    after = reader.read(message(2, ("b", 84), ("d", 85), since=1, changed="b c d"))
    assert shown(after) == [("a", 80), ("b", 84), ("d", 85)]
    assert after.version == 2
    assert after.nodes == before.nodes != ()
    assert after.ports[0] is before.ports[0], "who compares need not look into it"


def test_a_whole_forgets_what_it_does_not_name_and_keeps_what_is_the_same() -> None:
    reader = MeshReader()
    before = reader.read(message(1, ("a", 80), ("b", 81)))
    after = reader.read(message(7, ("a", 80)))
    assert shown(after) == [("a", 80)]
    assert after.ports[0] is before.ports[0]


def test_a_difference_to_something_else_is_refused_and_a_whole_is_taken_after_it() -> None:
    reader = MeshReader()
    reader.read(message(3, ("a", 80)))
    with pytest.raises(Unavailable, match="difference to version 4 of the mesh, but this node has version 3"):
        reader.read(message(5, ("a", 81), since=4, changed="a"))
    assert shown(reader.read(message(5, ("a", 81)))) == [("a", 81)]
