"""The disaster tools on managers whose disks the operators have locked."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.lab import Lab
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster, pytest.mark.timeout(600)]

SWARMD = Path(sys.executable).parent / "swarmd"


@pytest.fixture
def locked(trio: Lab) -> Iterator[tuple[Lab, str]]:
    """Three managers that are locked, and the key; unlocked and three again afterwards."""
    key = re.search(r"SWMKEY-1-\S+", trio.ask("swarm", "update", "--autolock"))
    assert key is not None
    for node in trio.nodes:
        eventually(f"{node} is locked", lambda node=node: _is_locked(trio, node))  # type: ignore[misc]
    yield trio, key[0]
    trio.repair()
    for node in trio.nodes:
        _unlock(trio, node, key[0])
    survivor = eventually(
        "a manager answers",
        lambda: [node for node in trio.nodes if trio.on(node, "node", "ls").code == 0],
    )[0]
    for node in trio.nodes:
        if "not a swarm manager" in trio.on(node, "node", "ls").err:
            trio.ask("node", "promote", node, node=survivor)
    _three_managers(trio, survivor)
    trio.ask("swarm", "update", "--autolock=false", node=survivor)
    for node in trio.nodes:
        eventually(f"{node} is not locked", lambda node=node: not _is_locked(trio, node))  # type: ignore[misc]


def _data(lab: Lab, node: str) -> Path:
    return lab.directory(node) / "data"


def _is_locked(lab: Lab, node: str) -> bool:
    """Whether the key to the node's disk is on no disk."""
    return not (_data(lab, node) / "vault" / "kek").exists()


def _state(lab: Lab, node: str) -> str:
    return next((line.split()[1] for line in lab.on(node, "info").lines if "Swarm:" in line), "")


def _unlock(lab: Lab, node: str, key: str) -> None:
    """Give ``node`` the key if it waits for it."""
    settled = eventually(
        f"{node} knows its state", lambda: _state(lab, node), lambda s: s not in ("", "pending")
    )
    if settled == "locked":
        lab.ask("swarm", "unlock", node=node, stdin=key.encode())


def _three_managers(lab: Lab, node: str) -> None:
    eventually(
        "three managers reach each other",
        lambda: sorted(filter(None, lab.node_column("ManagerStatus", node=node).values())),
        lambda found: found == ["Leader", "Reachable", "Reachable"],
    )


def _swarmd(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SWARMD, *map(str, words)], capture_output=True, text=True, timeout=60, check=False)


def _back(lab: Lab, node: str, key: str, survivor: str) -> None:
    """Start a former manager, and take it in again."""
    lab.local("start", node)
    _unlock(lab, node, key)
    eventually(f"{node} is a worker", lambda: lab.on(node, "node", "ls").err, lambda text: "Worker" in text)
    lab.until_node(node, "Ready", node=survivor)
    lab.ask("node", "promote", node, node=survivor)


def test_a_locked_survivor_goes_on_once_it_is_unlocked_and_stays_locked(locked: tuple[Lab, str]) -> None:
    lab, key = locked
    lab.ask("node", "update", "--label-add", "kept=yes", "node3")
    for node in lab.nodes:
        lab.local("kill", node)
    lab.local("start", "node3")
    eventually("it is locked", lambda: _state(lab, "node3") == "locked")
    refused = lab.refusal("swarm", "init", "--force-new-cluster", node="node3")
    assert "needs to be unlocked before it can be used" in refused
    lab.ask("swarm", "unlock", node="node3", stdin=key.encode())
    eventually("it misses the others", lambda: "have a leader" in lab.on("node3", "node", "ls").err)
    assert "begun anew" in lab.ask("swarm", "init", "--force-new-cluster", node="node3")
    assert '"kept"' in lab.ask("node", "inspect", "node3", node="node3")
    assert lab.ask("swarm", "unlock-key", "-q", node="node3") == key
    assert _is_locked(lab, "node3")
    for node in ("node1", "node2"):
        _back(lab, node, key, "node3")
    _three_managers(lab, "node3")
    for node in lab.nodes:
        eventually(f"{node} is locked", lambda node=node: _is_locked(lab, node))  # type: ignore[misc]


def test_a_locked_managers_disk_is_recovered_with_the_key_and_not_without(
    locked: tuple[Lab, str], tmp_path: Path
) -> None:
    lab, key = locked
    lab.ask("node", "update", "--label-add", "kept=yes", "node3")
    for node in lab.nodes:
        lab.local("kill", node)
    data, file = _data(lab, "node3"), tmp_path / "key"
    wrong = tmp_path / "wrong"
    file.write_text(f"{key}\n")
    wrong.write_text(f"{key[:-4]}{'aaaa' if not key.endswith('aaaa') else 'bbbb'}\n")
    for words in (("raft", "verify"), ("recover",)):
        without = _swarmd(*words, "--data-dir", data)
        assert (without.returncode, "--unlock-key-file" in without.stderr) == (1, True), without
        assert _swarmd(*words, "--data-dir", data, "--unlock-key-file", wrong).returncode == 1
    recovered = _swarmd("recover", "--data-dir", data, "--unlock-key-file", file)
    assert recovered.returncode == 0, recovered
    assert "is now the only manager" in recovered.stdout
    assert _is_locked(lab, "node3"), "a recovery leaves no key behind"
    lab.local("start", "node3")
    eventually("it is locked", lambda: _state(lab, "node3") == "locked")
    lab.ask("swarm", "unlock", node="node3", stdin=key.encode())
    eventually("it leads", lambda: lab.on("node3", "node", "ls").code == 0)
    assert '"kept"' in lab.ask("node", "inspect", "node3", node="node3")
    assert _swarmd("raft", "verify", "--data-dir", data, "--unlock-key-file", file).returncode == 0
    for node in ("node1", "node2"):
        _back(lab, node, key, "node3")
    _three_managers(lab, "node3")


def test_a_snapshot_of_a_locked_swarm_makes_one_that_locks_itself_with_the_same_key(
    locked: tuple[Lab, str], tmp_path: Path
) -> None:
    lab, key = locked
    file = tmp_path / "site.snapshot"
    lab.ask("cluster", "snapshot", "save", str(file), node="node2")
    for node in lab.nodes:
        lab.local("kill", node)
        for name in ("raft", "identity", "vault", "backups"):
            shutil.rmtree(_data(lab, node) / name, ignore_errors=True)
        for name in ("node.json", "tasks.db", "tasks.db-wal", "tasks.db-shm", "mesh.json"):
            (_data(lab, node) / name).unlink(missing_ok=True)
    lab.start_all(*lab.nodes)
    lab.ask("cluster", "snapshot", "restore", "--advertise-addr", lab.addresses["node1"], str(file))
    assert lab.ask("swarm", "unlock-key", "-q") == key
    eventually("it locks itself", lambda: _is_locked(lab, "node1"))
    lab.kill_daemon("node1")
    eventually("it is locked", lambda: _state(lab, "node1") == "locked")
    lab.ask("swarm", "unlock", stdin=key.encode())
    eventually("it leads", lambda: lab.on("node1", "node", "ls").code == 0)
    token = lab.ask("swarm", "join-token", "-q", "manager")
    for node in ("node2", "node3"):
        lab.ask("swarm", "join", "--token", token, lab.addresses["node1"], node=node)
    _three_managers(lab, "node1")
    lab.forget_the_lost(3)
