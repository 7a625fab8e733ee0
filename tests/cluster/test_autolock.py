"""What lies on a manager's disk, and who can open it: sealed always, locked when the operators want it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.lab import Lab
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster]

LOCKED = (
    "Error response from daemon: Swarm is encrypted and needs to be unlocked before it can be used. "
    'Please use "swarmctl swarm unlock" to unlock it.\n'
)
WRONG = "Error response from daemon: swarm could not be unlocked: invalid key provided\n"


def _key(text: str) -> str:
    found = re.search(r"SWMKEY-1-\S+", text)
    assert found, text
    return found[0]


def _state(lab: Lab, node: str) -> str:
    return next((line.split()[1] for line in lab.on(node, "info").lines if "Swarm:" in line), "")


def _is_locked(lab: Lab, node: str) -> bool:
    """Whether the key to the node's disk is on no disk."""
    return not (lab.directory(node) / "data" / "vault" / "kek").exists()


def _rewrapped(lab: Lab, node: str) -> int:
    """How often the node has locked its key ring anew, by its log."""
    logs = (lab.directory(node) / "log").glob("*.log")
    return sum(log.read_text().count('"keys_rewrapped"') for log in logs)


def _restart_daemon(lab: Lab, node: str) -> None:
    killed = lab.kill_daemon(node)
    lab.until_another_daemon(node, killed)
    eventually("it is locked", lambda: _state(lab, node), lambda state: state == "locked")


def _managers(lab: Lab) -> None:
    eventually(
        "three managers reach each other",
        lambda: sorted(lab.node_column("ManagerStatus").values()),
        lambda statuses: statuses == ["Leader", "Reachable", "Reachable"],
    )


@pytest.fixture
def unlocked(trio: Lab) -> Iterator[Lab]:
    """Three managers; not locked afterwards, whatever a test did."""
    yield trio
    trio.repair()
    trio.ask("swarm", "update", "--autolock=false")
    for node in trio.nodes:
        eventually(f"{node} is not locked", lambda node=node: not _is_locked(trio, node))  # type: ignore[misc]
    _managers(trio)


def test_locked_managers_come_back_with_the_key_of_before_they_went(unlocked: Lab) -> None:
    lab = unlocked
    lab.create("web", "--mode", "global")
    lab.until_running("web", 3)
    first = _key(lab.ask("swarm", "update", "--autolock", node="node2"))
    assert lab.ask("swarm", "unlock-key", "-q", node="node3") == first
    for node in lab.nodes:
        eventually(f"{node} is locked", lambda node=node: _is_locked(lab, node))  # type: ignore[misc]

    containers = lab.processes("node3")
    _restart_daemon(lab, "node3")
    assert lab.processes("node3") == containers, "containers run on while the manager is locked"
    assert lab.refusal("node", "ls", node="node3") == LOCKED
    assert lab.refusal("swarm", "unlock-key", node="node3") == LOCKED
    assert "or use `--force`" in lab.refusal("swarm", "leave", node="node3")

    second = _key(lab.ask("swarm", "unlock-key", "--rotate"))
    assert second != first
    assert lab.on("node3", "swarm", "unlock", stdin=second.encode()).err == WRONG
    followed = _rewrapped(lab, "node3")
    lab.ask("swarm", "unlock", node="node3", stdin=first.encode())
    lab.until_ready()
    _managers(lab)
    lab.until_running("web", 3)
    eventually("it follows the rotation", lambda: _rewrapped(lab, "node3"), lambda count: count > followed)

    _restart_daemon(lab, "node3")
    assert lab.on("node3", "swarm", "unlock", stdin=first.encode()).err == WRONG, "it followed the rotation"
    lab.ask("swarm", "unlock", node="node3", stdin=f"{second}\n".encode())
    _managers(lab)
    audit = lab.ask("swarm", "audit", node="node3")
    assert "UnlockSwarm" in audit
    assert "SWMKEY" not in audit
    for node in lab.nodes:
        for log in (lab.directory(node) / "log").glob("*.log"):
            assert not re.search("SWMKEY|SWMTKN", log.read_text()), log


def test_a_whole_swarm_that_lost_its_power_is_unlocked_manager_by_manager(unlocked: Lab) -> None:
    lab = unlocked
    key = _key(lab.ask("swarm", "update", "--autolock")).encode()
    lab.ask("node", "update", "--label-add", "kept=yes", "node1")
    for node in lab.nodes:
        eventually(f"{node} is locked", lambda node=node: _is_locked(lab, node))  # type: ignore[misc]
        lab.local("kill", node)
    lab.start_all(*lab.nodes)
    for node in lab.nodes:
        eventually(f"{node} says so", lambda node=node: _state(lab, node) == "locked")  # type: ignore[misc]
    for node in lab.nodes:
        lab.ask("swarm", "unlock", node=node, stdin=key)
    _managers(lab)
    assert "kept" in lab.ask("node", "inspect", "node1")


def test_a_promoted_worker_is_locked_and_a_demoted_manager_is_not(unlocked: Lab) -> None:
    lab = unlocked
    key = _key(lab.ask("swarm", "update", "--autolock"))
    lab.ask("node", "demote", "node3")
    eventually("node3 has its key beside", lambda: not _is_locked(lab, "node3"))
    killed = lab.kill_daemon("node3")
    lab.until_another_daemon("node3", killed)
    eventually("a worker needs no key", lambda: _state(lab, "node3") == "active")
    lab.until_ready()
    lab.ask("node", "promote", "node3")
    eventually("node3 is locked", lambda: _is_locked(lab, "node3"))
    _managers(lab)
    _restart_daemon(lab, "node3")
    lab.ask("swarm", "unlock", node="node3", stdin=key.encode())
    _managers(lab)


def test_settings_change_while_everything_runs(unlocked: Lab) -> None:
    lab = unlocked
    assert lab.ask("swarm", "update", "--task-history-limit", "2", node="node2") == "Swarm updated."
    lab.create("short", "--restart-condition", "none", "--replicas", "1")
    for number in range(4):
        lab.until_running("short", 1)
        lab.ask("service", "update", "--detach", "--force", "--label-add", f"n={number}", "short")
        eventually(
            "the new task runs",
            lambda: [task.runs for task in lab.tasks("short")].count(True) == 1,
        )
    eventually("the running task and one old one are kept", lambda: len(lab.tasks("short")) == 2)
    assert "cert-expiry must be at least" in lab.refusal("swarm", "update", "--cert-expiry", "5m")
    lab.ask("swarm", "update", "--task-history-limit", "5")


# -- what is in the clear --------------------------------------------------------------------------


def _files_with(data: Path, what: str) -> list[str]:
    """Names of files that hold ``what``, but for those of images and containers."""

    def look() -> list[str]:
        paths = [path for path in data.rglob("*") if path.is_file() and not path.is_symlink()]
        names = [path.relative_to(data) for path in paths]
        return [
            str(name)
            for name in names
            if name.parts[0] not in ("images", "containers") and what.encode() in (data / name).read_bytes()
        ]

    return eventually("no file goes while all are read", look, lambda _: True)


def _open_to_others(directory: Path) -> list[Path]:
    def look() -> list[Path]:
        return [path for path in (directory, *directory.rglob("*")) if path.stat().st_mode & 0o077]

    return eventually("no file goes while all are looked at", look, lambda _: True)


def test_nothing_secret_lies_on_a_managers_disk_in_the_clear(lab: Lab) -> None:
    env = "PASSWORD=correct-horse-battery"
    lab.create("web", "--env", env, "--constraint", "node.role==worker", "--mode", "global")
    lab.until_running("web", 2)
    tokens = [lab.ask("swarm", "join-token", "-q", role) for role in ("worker", "manager")]
    secrets = [token.rsplit("-", 1)[1] for token in tokens] + [env, "PRIVATE KEY", "gossip_key"]
    manager, worker = (lab.directory(node) / "data" for node in ("node1", "node2"))
    assert [(secret, _files_with(manager, secret)) for secret in secrets] == [
        (secret, []) for secret in secrets
    ]
    assert _files_with(worker, env) == [], "only the container's own settings have its environment"
    assert _files_with(worker, "PRIVATE KEY") == []
    for name in ("vault", "identity", "raft"):
        assert _open_to_others(manager / name) == []
