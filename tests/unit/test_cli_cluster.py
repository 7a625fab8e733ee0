"""swarmctl cluster snapshot, and swarm init --force-new-cluster, against a daemon with canned answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.control.snapshots import pack
from swarmd.model.objects import Cluster, Node, NodeDescription, NodeStatus, Service
from swarmd.rpc.v1 import control_pb2, node_pb2
from swarmd.security import passphrase
from tests.unit.test_cli_fake import NODE_ID, Cli, FakeDaemon, Refusal, command_line, fake_daemon
from tests.unit.test_control_bed import a_spec

FILE = pack(
    [
        Cluster(id="c1swarm", ca_key=b"SECRET KEY", worker_token="secretw", manager_token="secretm"),
        Service(id="s1", spec=a_spec("web")),
        Node(id="n1", description=NodeDescription(hostname="big"), status=NodeStatus(address="10.0.0.1")),
    ],
    index=42,
    epoch=3,
    now=1_800_000_000.0,
)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    for fake in fake_daemon(tmp_path, monkeypatch):
        pieces = [control_pb2.SaveSnapshotResponse(data=FILE[at : at + 64]) for at in range(0, len(FILE), 64)]
        fake.answers["SaveSnapshot"] = lambda _, pieces=pieces: iter(pieces)
        fake.answers["RestoreSwarm"] = node_pb2.RestoreSwarmResponse(
            node_id=NODE_ID, address="10.0.0.1", cluster_id="c1swarm", services=1, nodes=1
        )
        yield fake


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(capsys)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words"
    path.write_bytes(b"correct horse\n")
    return path


def test_save_writes_a_file_for_its_owner_only(daemon: FakeDaemon, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "s.snapshot"
    file.write_bytes(b"an older one")
    code, out, _ = cli("cluster", "snapshot", "save", str(file))
    assert (code, file.read_bytes()) == (0, FILE)
    assert file.stat().st_mode & 0o777 == 0o600
    assert "1 services, 0 tasks, 1 nodes, change 42; it holds the swarm's keys" in out
    assert sorted(path.name for path in tmp_path.glob("s.*")) == ["s.snapshot"]


def test_save_names_the_file_itself(
    daemon: FakeDaemon, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("cluster", "snapshot", "save")[0] == 0
    assert (tmp_path / "swarm-c1swarm-42.snapshot").read_bytes() == FILE


def test_save_with_a_passphrase_seals(daemon: FakeDaemon, cli: Cli, tmp_path: Path, words: Path) -> None:
    file = tmp_path / "s.snapshot"
    assert cli("cluster", "snapshot", "save", "--passphrase-file", str(words), str(file))[0] == 0
    assert passphrase.unseal(file.read_bytes(), b"correct horse", "f") == FILE


def test_save_tells_why_it_could_not(daemon: FakeDaemon, cli: Cli, tmp_path: Path) -> None:
    daemon.answers["SaveSnapshot"] = Refusal("no leader", "unavailable")
    code, _, err = cli("cluster", "snapshot", "save", str(tmp_path / "s"))
    assert (code, "no leader" in err, (tmp_path / "s").exists()) == (1, True, False)
    daemon.answers["SaveSnapshot"] = lambda _: iter([control_pb2.SaveSnapshotResponse(data=FILE[:-9])])
    code, _, err = cli("cluster", "snapshot", "save", str(tmp_path / "s"))
    assert (code, "cut off" in err, (tmp_path / "s").exists()) == (1, True, False)


def test_inspect_needs_no_daemon_and_shows_no_secret(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARMCTL_HOST", f"unix://{tmp_path}/nobody")
    file = tmp_path / "s.snapshot"
    file.write_bytes(FILE)
    code, out, _ = cli("cluster", "snapshot", "inspect", str(file))
    assert code == 0
    assert "epoch 3, change 42" in out
    assert [line.split() for line in out.splitlines() if line.startswith("web")] == [
        ["web", "replicated", "1", "nginx:1"]
    ]
    code, text, _ = cli("cluster", "snapshot", "inspect", "--format", "json", str(file))
    data = json.loads(text)
    assert (code, data["ClusterID"], data["Nodes"][0]["Hostname"]) == (0, "c1swarm", "big")
    assert all(secret not in out + text for secret in ("SECRET", "secretw", "secretm"))


def test_inspect_of_a_damaged_or_sealed_file_is_a_sentence(cli: Cli, tmp_path: Path, words: Path) -> None:
    file = tmp_path / "s.snapshot"
    file.write_bytes(FILE[:-1] + b"?")
    assert "damaged" in cli("cluster", "snapshot", "inspect", str(file))[2]
    file.write_bytes(passphrase.seal(FILE, b"correct horse"))
    assert "--passphrase-file" in cli("cluster", "snapshot", "inspect", str(file))[2]
    words.write_bytes(b"wrong horses\n")
    code, _, err = cli("cluster", "snapshot", "inspect", "--passphrase-file", str(words), str(file))
    assert (code, "the passphrase is wrong" in err) == (1, True)


def test_restore_sends_the_file_opened(daemon: FakeDaemon, cli: Cli, tmp_path: Path, words: Path) -> None:
    file = tmp_path / "s.snapshot"
    file.write_bytes(passphrase.seal(FILE, b"correct horse"))
    command = (
        "cluster",
        "snapshot",
        "restore",
        "--advertise-addr",
        "10.0.0.1",
        "--passphrase-file",
        str(words),
    )
    code, out, _ = cli(*command, str(file))
    assert code == 0
    assert "Swarm c1swarm restored with 1 services" in out
    ((first, *rest),) = daemon.asked("RestoreSwarm")
    assert (first.advertise_addr, first.data) == ("10.0.0.1", b"")
    assert b"".join(request.data for request in rest) == FILE


def test_restore_of_a_damaged_file_asks_no_daemon(daemon: FakeDaemon, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "s.snapshot"
    file.write_bytes(FILE[: len(FILE) // 2])
    code, _, err = cli("cluster", "snapshot", "restore", str(file))
    assert (code, "cut off" in err, daemon.asked("RestoreSwarm")) == (1, True, [])


def test_begin_anew_asks_for_it_and_says_so(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["InitSwarm"] = node_pb2.InitSwarmResponse(
        node_id=NODE_ID, worker_token="SWMTKN-1-a-b", address="10.0.0.1"
    )
    code, out, _ = cli("swarm", "init", "--force-new-cluster", "--force", "--advertise-addr", "10.0.0.1")
    assert code == 0
    assert out.startswith(f"Swarm begun anew: current node ({NODE_ID}) is now its only manager.\n")
    (request,) = daemon.asked("InitSwarm")
    assert (request.force_new_cluster, request.force, request.advertise_addr) == (True, True, "10.0.0.1")
