"""Which images may run: said by rules, refused by managers with a sentence, and by each node for itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.lab import Lab
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster]

RULE = "docker.io/library/nginx"


@pytest.fixture
def keys(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """Two pairs, whose public halves the swarm knows; rules and keys go afterwards."""
    (tmp_path / "password").write_text("correct horse\n")
    for name in ("prod", "other"):
        lab.ask(
            "trust", "key", "generate", "--password-file", str(tmp_path / "password"), str(tmp_path / name)
        )
        lab.ask("trust", "key", "add", name, str(tmp_path / f"{name}.pub"))
    yield tmp_path
    for rule in lab.ask("trust", "ls", "-q").split():
        lab.ask("trust", "rm", rule)
    lab.ask("trust", "key", "rm", "prod", "other")


def test_only_what_is_signed_runs_and_a_node_sees_for_itself(lab: Lab, keys: Path) -> None:
    assert lab.ask("trust", "require", "nginx", "prod") == RULE
    said = lab.refusal("service", "create", "--detach", "--name", "web", "nginx:1.12")
    assert f'is refused by the trust rule "{RULE}": it must be signed by prod' in said

    password = ("--password-file", str(keys / "password"))
    lab.ask("trust", "sign", "--key", str(keys / "other.key"), *password, "nginx:1.12")
    assert "no signature that counts" in lab.refusal("trust", "verify", "nginx:1.12")
    lab.ask("trust", "sign", "--key", str(keys / "prod.key"), *password, "nginx:1.12")
    assert "signed by prod" in lab.ask("trust", "verify", "nginx:1.12")
    assert "is signed by" in lab.ask("trust", "verify", "--key", str(keys / "prod.pub"), "nginx:1.12")
    lab.create("web", "--replicas", "3")
    first = lab.until_running("web", 3)
    assert {task.node for task in first} == set(lab.nodes)
    said = lab.refusal("service", "update", "--detach", "--image", "nginx:1.13", "web")
    assert "trust rule" in said, "another digest, which nobody signed"

    # What runs is left alone; what begins is judged by the node that it begins on.
    lab.ask("trust", "reject", "nginx")
    lab.ask("service", "scale", "--detach", "web=4")
    eventually(
        "a node rejects the fourth task, and says why",
        lambda: lab.tasks("web"),
        lambda tasks: any(
            task.state == "Rejected" and f'trust rule "{RULE}"' in task.error for task in tasks
        ),
    )
    assert {task.id for task in lab.running("web")} == {task.id for task in first}
    said = lab.refusal("run", "--rm", "nginx:1.12", "true", code=125)
    assert "no image of that name may run" in said


def test_a_rule_can_ask_for_a_good_scan(lab: Lab, keys: Path, tmp_path: Path) -> None:
    lab.ask("trust", "require", "nginx", "--max-severity", "medium", "--max-scan-age", "1h")
    refused = lab.refusal("service", "create", "--detach", "--name", "web", "nginx:1.12")
    assert "it must have been scanned, and was not" in refused
    advisories = tmp_path / "osv"
    advisories.mkdir()
    (advisories / "one.json").write_text(json.dumps({"id": "X-1", "affected": []}))
    lab.ask("image", "scan", "--advisories", str(advisories), "--fail-on", "low", "nginx:1.12")
    (known,) = json.loads(lab.ask("trust", "inspect", "nginx:1.12"))
    assert known["Allowed"] is True
    assert known["Scan"]["Findings"] == {}
    lab.create("web")
    lab.until_running("web", 1)
