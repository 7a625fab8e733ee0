"""Health checks and readiness probes of a running service, as its visitors and its operator see them."""

from __future__ import annotations

import pytest

from tests.cluster.lab import Lab
from tests.cluster.visitor import Visitor
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster]

READY = "cmd=test ! -e /busy,interval=300ms,timeout=20s,failures=1"


def test_an_update_to_what_is_never_healthy_pauses_and_the_rest_serves_on(lab: Lab) -> None:
    lab.create(
        "web", "--publish", "80:80", "--replicas", "2", "--health-cmd", "true", "--health-interval", "300ms"
    )
    lab.until_running("web", 2)
    lab.until_answered(80)
    assert sum(lab.ask("ps", node=node).count("(healthy)") for node in lab.nodes) == 2
    with Visitor(lab, 80, ["node2"]) as visitor:
        done = lab.on(
            "node1",
            *("service", "update", "--health-cmd", "echo database is away; exit 1", "--health-retries", "2"),
            *("--health-timeout", "20s", "web"),
        )
        assert done.code == 1, done
        assert lab.update_state("web") == "paused"
        eventually("the visitor is served", lambda: len(visitor.images), lambda count: count >= 20)
    assert visitor.failures == [], f"{len(visitor.failures)} of {len(visitor.images)} requests failed"
    errors = [task.error for task in lab.tasks("web") if task.state == "Failed"]
    assert any("unhealthy container: database is away" in error for error in errors), errors
    assert len(lab.running("web")) == 1


def test_a_task_that_is_not_ready_gets_no_requests_until_it_is(lab: Lab) -> None:
    lab.create("web", "--publish", "80:80", "--replicas", "3", "--readiness", READY)
    lab.until_running("web", 3)
    lab.until_answered(80)
    with Visitor(lab, 80, ["node1", "node2", "node3"]) as visitor:
        busy = lab.running("web")[0]
        lab.ask("exec", busy.name, "touch", "/busy")
        eventually(
            "it gets no requests",
            lambda: _served(lab, 20),
            lambda by: busy.id[:12] not in by and len(by) == 2,
        )
        lab.ask("exec", busy.name, "rm", "/busy")
        eventually(
            "it gets requests again", lambda: _served(lab, 20), lambda by: busy.id[:12] in by and len(by) == 3
        )
    assert visitor.failures == [], f"{len(visitor.failures)} of {len(visitor.images)} requests failed"
    assert {task.name for task in lab.running("web")} == {"web.1", "web.2", "web.3"}


def _served(lab: Lab, requests: int) -> set[str]:
    """The containers that answered one of ``requests`` on every node."""
    return {lab.get(node, 80).container for node in lab.nodes for _ in range(requests)}
