"""What a swarm comes back from: the loss of its majority, and of everything but a file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.lab import HOSTNAME_PAGE, Lab
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster]

SWARMD = Path(sys.executable).parent / "swarmd"


@pytest.fixture
def trio(trio: Lab) -> Iterator[Lab]:
    """Three managers, and three again afterwards, whichever nodes they are then."""
    yield trio
    trio.repair()
    survivor = eventually(
        "a manager answers",
        lambda: [node for node in trio.nodes if trio.on(node, "node", "ls").code == 0],
    )[0]
    for node in trio.nodes:
        if "not a swarm manager" in trio.on(node, "node", "ls").err:
            trio.ask("node", "promote", node, node=survivor)
    _three_managers(trio, survivor)


def _managers(lab: Lab, node: str) -> list[str]:
    return sorted(
        line
        for line in lab.ask("node", "ls", "--format", "{{.ManagerStatus}}", node=node).splitlines()
        if line
    )


def _three_managers(lab: Lab, node: str) -> None:
    eventually(
        "three managers reach each other",
        lambda: _managers(lab, node),
        lambda found: found == ["Leader", "Reachable", "Reachable"],
    )


def _web(lab: Lab) -> None:
    lab.create("web", "--publish", "80:80", "--replicas", "3", *HOSTNAME_PAGE)
    lab.until_running("web", 3)
    lab.until_answered(80)


def _identity(lab: Lab, node: str) -> tuple[str, str, str]:
    """What makes a swarm the same swarm: its id, its authority, a token."""
    return (
        json.loads(lab.ask("info", "--format", "json", node=node))["Swarm"]["Cluster"]["ID"],
        lab.ask("swarm", "ca", node=node),
        lab.ask("swarm", "join-token", "-q", "worker", node=node),
    )


def _data(lab: Lab, node: str) -> Path:
    return lab.root / "nodes" / lab.name / node / "data"


def _swarmd(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SWARMD, *map(str, words)], capture_output=True, text=True, timeout=60)


def test_a_majority_is_lost_for_good_and_a_survivor_goes_on(trio: Lab) -> None:
    _web(trio)
    before = _identity(trio, "node3")
    own = trio.processes("node3")
    assert "needs no force" in trio.refusal("swarm", "init", "--force-new-cluster", node="node3")

    trio.local("kill", "node1")
    trio.local("kill", "node2")
    eventually(
        "the loss is noticed",
        lambda: trio.on("node3", "node", "ls"),
        lambda done: done.code == 1 and "does not have a leader" in done.err,
    )
    assert "begun anew" in trio.ask("swarm", "init", "--force-new-cluster", node="node3")
    eventually("it leads", lambda: _managers(trio, "node3") == ["Leader"])
    assert _identity(trio, "node3") == before
    trio.until_running("web", 3, node="node3")
    assert set(own) <= set(trio.processes("node3")), "its containers were not touched"
    eventually("visitors are answered", lambda: trio.answers("node3", 80))
    assert _swarmd("raft", "verify", "--data-dir", _data(trio, "node3")).returncode == 0
    (kept,) = (_data(trio, "node3") / "backups").glob("before-recovery-*.snapshot")
    assert "node2" in trio.ask("cluster", "snapshot", "inspect", str(kept), node="node3")

    # Those who were lost after all come back one by one, learn that they are out, and are taken in again.
    for node in ("node1", "node2"):
        trio.local("start", node)
        eventually(
            f"{node} is a worker", lambda n=node: trio.on(n, "node", "ls").err, lambda e: "Worker" in e
        )  # type: ignore[misc]
        trio.until_node(node, "Ready", node="node3")
        trio.ask("node", "promote", node, node="node3")
    _three_managers(trio, "node3")
    trio.until_running("web", 3, node="node1")
    eventually("nothing runs twice", trio.containers, lambda found: sum(found.values()) == 3)


def test_a_whole_site_is_lost_and_the_swarm_comes_back_from_a_file(trio: Lab, tmp_path: Path) -> None:
    _web(trio)
    before = _identity(trio, "node2")
    file, words = tmp_path / "site.snapshot", tmp_path / "words"
    words.write_text("correct horse battery\n")
    trio.ask("cluster", "snapshot", "save", "--passphrase-file", str(words), str(file), node="node2")
    service = trio.ask("service", "inspect", "--format", "{{.ID}}", "web")
    assert "is part of none" in trio.refusal(
        "cluster", "snapshot", "restore", "--passphrase-file", str(words), str(file)
    )

    for node in trio.nodes:
        trio.local("kill", node)
        for name in ("raft", "identity", "vault", "backups"):
            shutil.rmtree(_data(trio, node) / name, ignore_errors=True)
        for name in ("node.json", "tasks.db", "tasks.db-wal", "tasks.db-shm", "mesh.json"):
            (_data(trio, node) / name).unlink(missing_ok=True)
    trio.start_all(*trio.nodes)
    said = trio.ask(
        "cluster", "snapshot", "restore", "--passphrase-file", str(words), "--advertise-addr",
        trio.addresses["node1"], str(file),
    )  # fmt: skip
    assert "is now its only manager" in said
    assert _identity(trio, "node1") == before
    assert trio.ask("service", "inspect", "--format", "{{.ID}}", "web") == service
    trio.until_running("web", 3)
    eventually("visitors are answered", lambda: trio.answers("node1", 80))

    token = trio.ask("swarm", "join-token", "-q", "manager")
    for node in ("node2", "node3"):
        trio.ask("swarm", "join", "--token", token, trio.addresses["node1"], node=node)
    _three_managers(trio, "node1")
    trio.forget_the_lost(3)
    assert sorted(trio.node_column("Status").values()) == ["Ready"] * 3
