"""A node's mesh from wholes and differences."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from swarmd.daemon import mesh_file
from swarmd.daemon.mesh_file import MeshFile, network_state
from swarmd.daemon.mesh_reader import MeshReader
from swarmd.manager.dispatcher.parts import parts
from swarmd.model.errors import Unavailable
from swarmd.node.network.core.news import then
from swarmd.node.network.port import NetworkState
from swarmd.rpc.v1 import agent_pb2
from tests.unit.test_control_bed import ManualClock


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


def test_what_is_told_after_one_another_is_what_was_told_at_once() -> None:
    reader = MeshReader()
    whole = read(reader, message(1, ("a", 80), ("b", 81), ("b", 82), ("c", 83)))
    first = read(reader, message(2, ("b", 84), ("d", 85), since=1, changed="b c d"))
    second = read(reader, message(3, ("e", 86), since=2, changed="d e"))
    found = then(whole, first, second)
    assert found == then(then(whole, first), second)
    assert shown(found) == [("a", 80), ("b", 84), ("e", 86)]
    assert (found.version, found.since, found.nodes) == (3, 0, whole.nodes)
    both = then(first, second)
    assert (both.since, both.changed, both.kept) == (1, {"b", "c", "d", "e"}, {"nodes"})
    assert then(whole, both) == found


def test_a_whole_forgets_what_it_does_not_name() -> None:
    reader = MeshReader()
    before = read(reader, message(1, ("a", 80), ("b", 81)))
    after = read(reader, message(7, ("a", 80)))
    assert shown(then(before, after)) == [("a", 80)]


def test_a_difference_to_something_else_is_refused_and_a_whole_is_taken_after_it() -> None:
    reader = MeshReader()
    reader.read(message(3, ("a", 80)))
    with pytest.raises(Unavailable, match="difference to version 4 of the mesh, but this node has version 3"):
        reader.read(message(5, ("a", 81), since=4, changed="a"))
    assert shown(read(reader, message(5, ("a", 81)))) == [("a", 81)]


def test_parts_are_what_was_cut_and_an_incomplete_one_is_given_up_with_its_session() -> None:
    whole = message(7, *((name, number) for number, name in enumerate("abcdefgh", 80)))
    whole.certificates.add(id="c", pem=b"x" * 300)
    cut = parts(whole, 200)
    assert len(cut) > 3
    reader = MeshReader()
    assert [reader.read(copied(one)) for one in cut[:-1]] == [None] * (len(cut) - 1)
    assert reader.read(copied(cut[-1])) == network_state(whole)
    assert reader.read(copied(cut[0])) is None
    assert read(reader, message(8, ("a", 80))).version == 8, "another session began with a whole"
    with pytest.raises(Unavailable, match="part 2 of the mesh without the one before it"):
        reader.read(copied(cut[2]))
    for one in cut:
        found = reader.read(copied(one))
    assert found is None, "an older version, to the end"


def copied(message: agent_pb2.NetworkSnapshot) -> agent_pb2.NetworkSnapshot:
    made = agent_pb2.NetworkSnapshot()
    made.CopyFrom(message)
    return made


def test_a_manager_that_is_behind_is_not_believed() -> None:
    reader = MeshReader()
    reader.read(message(5, ("a", 80)))
    assert reader.read(message(3)) is None
    assert reader.read(message(4, since=3)) is None
    assert shown(read(reader, message(6, ("b", 81), since=5, changed="b"))) == [("b", 81)]


async def test_the_file_has_what_was_told_last_whatever_was_added_to_it(tmp_path: Path) -> None:
    path, reader = tmp_path / "mesh.json", MeshReader()
    told = [
        read(reader, message(1, ("a", 80), ("b", 81))),
        read(reader, message(2, ("b", 82), since=1, changed="b")),
        read(reader, message(3, ("c", 83), since=2, changed="c")),
    ]
    await saved(path, *told[:1])
    assert path.read_bytes().count(b"\n") == 1
    file = await saved(path, *told)
    assert path.read_bytes().count(b"\n") == 3
    assert file.load() == replace(then(*told), version=0)
    path.write_bytes(path.read_bytes()[:-9])  # the power failed
    assert shown(replace(then(*told[:2]))) == shown(loaded(path))


async def test_what_a_full_disk_does_not_take_is_kept_as_one_thing_and_written_later(tmp_path: Path) -> None:
    path, reader = tmp_path / "later" / "mesh.json", MeshReader()
    file, told = MeshFile(path, ManualClock()), []
    for version in range(1, 20):
        since, changed = (version - 1, f"s{version}") if version > 1 else (0, "")
        told.append(read(reader, message(version, (f"s{version}", version), since=since, changed=changed)))
        file.save(told[-1])
        file._write(file._taken())  # there is no such directory
        assert len(file._due) == 1
    path.parent.mkdir()
    file._write(file._taken())
    assert loaded(path) == replace(then(*told), version=0)


async def test_the_file_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_file, "_LEAST", 1000)
    path, reader, size = tmp_path / "mesh.json", MeshReader(), 0
    file = MeshFile(path, ManualClock())
    for version in range(1, 50):
        since, changed = (version - 1, "a") if version > 1 else (0, "")
        file.save(read(reader, message(version, ("a", version), since=since, changed=changed)))
        file._write(file._taken())
        size = max(size, path.stat().st_size)
    assert 1000 < size < 4000
    assert shown(loaded(path)) == [("a", 49)]


def read(reader: MeshReader, message: agent_pb2.NetworkSnapshot) -> NetworkState:
    state = reader.read(message)
    assert state is not None
    return state


def loaded(path: Path) -> NetworkState:
    state = MeshFile(path, ManualClock()).load()
    assert state is not None
    return state


async def saved(path: Path, *states: NetworkState) -> MeshFile:
    """Written one after the other, by one daemon."""
    file = MeshFile(path, ManualClock())
    for state in states:
        file.save(state)
        file._write(file._taken())
    return file
