"""Certificates of a real swarm: another root while everything runs, and a swarm that was off for too long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.security import ca
from swarmd.security.identity import Credentials, IdentityStore
from swarmd.security.issuing import Signer
from swarmd.security.vault import Vault
from tests.cluster.lab import HOSTNAME_PAGE, Lab
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster]


def _status(lab: Lab, node: str) -> list[str]:
    return lab.ask("swarm", "ca", "--status", node=node).splitlines()


def _digest(lab: Lab, node: str) -> str:
    return next(line.split()[-1] for line in _status(lab, node) if line.startswith(" Digest: "))


def _is_done(status: list[str]) -> bool:
    return "Rotation: none" in status


@pytest.fixture
def whole(trio: Lab) -> Iterator[Lab]:
    """The three managers; whatever a test did to them, they are three again afterwards."""
    yield trio
    trio.repair()
    trio.until_leader()
    trio.until_ready()


def test_the_root_changes_though_one_node_is_off_and_the_leader_dies_and_no_task_is_touched(
    whole: Lab,
) -> None:
    whole.create("web", "--publish", "80:80", "--replicas", "3", *HOSTNAME_PAGE)
    whole.until_running("web", 3)
    leader = whole.until_leader()
    away, third = (node for node in whole.nodes if node != leader)
    before, old_token = _digest(whole, leader), whole.ask("swarm", "join-token", "-q", "worker", node=leader)
    whole.local("kill", away)
    whole.until_node(away, "Down", node=leader)
    whole.until_running("web", 3, node=leader)
    whole.ask("swarm", "ca", "--rotate", "--detach", node=leader)
    status = eventually(
        "two have gone over, and the third is waited for",
        lambda: _status(whole, leader),
        lambda lines: "Rotated CA certificates: 2/3 nodes" in lines,
    )
    assert any(away in line and "it is down: start it, or remove it" in line for line in status)
    assert whole.ask("swarm", "join-token", "-q", "worker", node=leader) == old_token
    pids = whole.processes(third)
    whole.local("start", away)
    whole.local("kill", leader)
    eventually("another leader ends it", lambda: _status(whole, third), _is_done)
    assert _digest(whole, third) != before
    assert set(pids) <= set(whole.processes(third)), "no container noticed"
    assert whole.ask("swarm", "join-token", "-q", "worker", node=third) != old_token
    whole.local("start", leader)
    whole.until_ready(node=third)
    eventually(
        "the last one has gone over, too",
        lambda: set(whole.node_column("TLSStatus", node=third).values()),
        lambda found: found == {"Ready"},
    )
    whole.until_answered(80)


def test_a_swarm_that_was_off_for_longer_than_its_certificates_live_comes_back_by_itself(
    whole: Lab, tmp_path: Path
) -> None:
    root, key = ca.new_root(time.time())
    (tmp_path / "ca.pem").write_bytes(root)
    (tmp_path / "ca.key").write_bytes(key)
    files = ("--ca-cert", str(tmp_path / "ca.pem"), "--ca-key", str(tmp_path / "ca.key"))
    shown = whole.ask("swarm", "ca", "--rotate", "--quiet", *files)
    assert shown.encode().strip() == root.strip()
    whole.create("before", "--replicas", "0")
    for node in whole.nodes:
        whole.local("stop", node)
    for node in whole.nodes:
        _let_expire(whole.directory(node) / "data", Signer(root, key))
    whole.start_all(*whole.nodes)
    whole.until_leader(node="node2")
    whole.until_ready(node="node2")
    assert whole.ask("service", "ls", "--format", "{{.Name}}", node="node3") == "before"
    eventually(
        "node1 says nothing of its certificate",
        lambda: whole.ask("info"),
        lambda text: "certificate" not in text,
    )


def _let_expire(data: Path, signer: Signer) -> None:
    """The same identity as before, whose certificate ended a while ago."""
    vault = Vault(data / "vault")
    vault.open_here()
    disk = IdentityStore(data / "identity", vault)
    held = disk.load()
    assert held is not None
    request = ca.new_request(held.key)
    expired = signer.sign(request, held.identity, now=time.time(), life=-60.0)
    disk.save(Credentials(key=held.key, certificate=expired, root=held.root))
