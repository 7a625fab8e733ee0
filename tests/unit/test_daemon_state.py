"""What a node keeps on disk: whole or damaged and said so, never half believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmd.control.cluster import Founding
from swarmd.daemon.state import MemoryFile, NodeMemory
from swarmd.model.errors import Invalid
from swarmd.model.replace import replace
from swarmd.model.states import Role
from swarmd.node.agent.core.remotes import Remote
from swarmd.security import ca
from swarmd.security.identity import Credentials, IdentityStore

NOW = 1_800_000_000.0
MEMORY = NodeMemory(
    node_id="n1",
    cluster_id="c1",
    address="10.0.0.1",
    managers=(Remote("m1", "10.0.0.2", "10.0.0.2:2377"),),
    gossip_key=b"\x00\xff",
    founding=Founding(
        cluster_id="c1", node_id="n1", address="10.0.0.1", root_ca=b"r", ca_key=b"k", gossip_key=b"\x00\xff"
    ),
)


def credentials(node_id: str = "n1") -> Credentials:
    root, root_key = ca.new_root(NOW)
    key = ca.new_key()
    identity = ca.Identity(node_id, Role.WORKER, "c1")
    certificate = ca.sign(
        ca.new_request(key), identity, root_pem=root, root_key_pem=root_key, now=NOW, life=7200
    )
    return Credentials(key=key, certificate=certificate, root=root)


def test_a_node_remembers_its_swarm_as_it_was(tmp_path: Path) -> None:
    file = MemoryFile(tmp_path / "node.json")
    assert file.load() is None
    file.save(MEMORY)
    assert file.load() == MEMORY
    fresh = replace(MEMORY, founding=None, number=3)
    file.save(fresh)
    assert file.load() == fresh
    assert (tmp_path / "node.json").stat().st_mode & 0o777 == 0o600, "the gossip key is in it"
    assert [path.name for path in tmp_path.iterdir()] == ["node.json"]
    file.remove()
    assert file.load() is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"node_id": 5}', b'{"node_id": "n1"}', b"\xff\xfe"])
def test_a_damaged_memory_is_named_with_the_way_out(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "node.json"
    path.write_bytes(data)
    with pytest.raises(Invalid, match=r"is damaged .* restore it from a backup") as caught:
        MemoryFile(path).load()
    assert str(path) in str(caught.value)


def test_a_certificate_is_replaced_whole(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path / "identity")
    first, second = credentials(), credentials()
    store.save(first)
    store.save(second)
    assert store.load() == second
    assert [path.name for path in tmp_path.iterdir()] == ["identity"]
    store.remove()
    assert store.load() is None


def test_a_crash_before_the_new_files_were_complete_leaves_the_old(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path / "identity")
    first, second = credentials(), credentials()
    store.save(first)
    (tmp_path / "identity.new").mkdir()
    (tmp_path / "identity.new" / "node.key").write_bytes(b"half")
    assert store.load() == first
    store.save(second)
    assert store.load() == second


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("node.key", None, "node.key"),
        ("ca.crt", None, "ca.crt"),
        ("node.crt", b"hello", "node.key is not the key of node.crt"),
        ("node.key", b"hello", "node.key is not the key of node.crt"),
        ("ca.crt", b"hello", "node.crt is not signed by ca.crt"),
    ],
)
def test_files_that_do_not_belong_together_are_not_believed(
    tmp_path: Path, name: str, data: bytes | None, why: str
) -> None:
    store = IdentityStore(tmp_path / "identity")
    store.save(credentials())
    path = tmp_path / "identity" / name
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    with pytest.raises(Invalid, match="is damaged") as caught:
        store.load()
    assert why in str(caught.value)


def test_the_key_of_another_certificate_is_noticed(tmp_path: Path) -> None:
    store, other = IdentityStore(tmp_path / "identity"), credentials()
    store.save(replace(credentials(), key=other.key))
    with pytest.raises(Invalid, match=r"node\.key is not the key of node\.crt"):
        store.load()
