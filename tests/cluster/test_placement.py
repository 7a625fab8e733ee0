"""Where tasks go, and what a task says that can go nowhere."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.cluster.lab import Lab
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster]


def test_a_second_service_goes_to_the_emptiest_node(lab: Lab) -> None:
    lab.create("full", "--replicas", "2")
    taken = {task.node for task in lab.until_running("full", 2)}
    lab.create("next")
    (task,) = lab.until_running("next", 1)
    assert task.node not in taken


def test_a_global_service_runs_once_on_every_node_and_follows_availability(lab: Lab) -> None:
    lab.create("everywhere", "--mode", "global")
    assert sorted(task.node for task in lab.until_running("everywhere", 3)) == lab.nodes
    lab.ask("node", "update", "--availability", "drain", "node3")
    try:
        assert sorted(task.node for task in lab.until_running("everywhere", 2)) == ["node1", "node2"]
        eventually("node3 is empty", lambda: lab.processes("node3"), lambda found: found == [])
    finally:
        lab.ask("node", "update", "--availability", "active", "node3")
    assert sorted(task.node for task in lab.until_running("everywhere", 3)) == lab.nodes


def test_a_drained_node_gives_its_tasks_away_and_gets_none(lab: Lab) -> None:
    lab.create("moved", "--replicas", "3")
    lab.until_running("moved", 3)
    lab.ask("node", "update", "--availability", "drain", "node2")
    try:
        eventually(
            "the tasks of node2 run elsewhere",
            lambda: lab.running("moved"),
            lambda tasks: len(tasks) == 3 and "node2" not in {task.node for task in tasks},
        )
        eventually("node2 is empty", lambda: lab.processes("node2"), lambda found: found == [])
        assert lab.node_column("Availability")["node2"] == "Drain"
        lab.ask("service", "scale", "--detach", "moved=5")
        assert "node2" not in {task.node for task in lab.until_running("moved", 5)}
    finally:
        lab.ask("node", "update", "--availability", "active", "node2")


def test_a_paused_node_keeps_its_tasks_and_gets_none(lab: Lab) -> None:
    lab.create("kept", "--replicas", "3")
    before = {task.id for task in lab.until_running("kept", 3)}
    lab.ask("node", "update", "--availability", "pause", "node3")
    try:
        lab.ask("service", "scale", "--detach", "kept=6")
        after = lab.until_running("kept", 6)
        assert before <= {task.id for task in after}
        assert Counter(task.node for task in after)["node3"] == 1
    finally:
        lab.ask("node", "update", "--availability", "active", "node3")


def test_constraints_choose_nodes_by_label_and_role(lab: Lab) -> None:
    lab.ask("node", "update", "--label-add", "zone=a", "node2")
    try:
        lab.create("zoned", "--replicas", "2", "--constraint", "node.labels.zone==a")
        assert {task.node for task in lab.until_running("zoned", 2)} == {"node2"}
        lab.create("managed", "--constraint", "node.role==manager")
        assert {task.node for task in lab.until_running("managed", 1)} == {"node1"}
        lab.create("elsewhere", "--replicas", "4", "--constraint", "node.hostname!=node1")
        assert {task.node for task in lab.until_running("elsewhere", 4)} == {"node2", "node3"}
    finally:
        lab.ask("node", "update", "--label-rm", "zone", "node2")


def test_a_task_that_fits_nowhere_says_why_and_goes_when_it_can(lab: Lab) -> None:
    lab.create("picky", "--constraint", "node.labels.color==blue")
    eventually(
        "the pending task names the constraint",
        lambda: lab.tasks("picky"),
        lambda tasks: (
            [task.state for task in tasks] == ["Pending"]
            and "scheduling constraints not satisfied on 3 nodes" in tasks[0].error
        ),
    )
    lab.ask("node", "update", "--label-add", "color=blue", "node3")
    try:
        assert [task.node for task in lab.until_running("picky", 1)] == ["node3"]
    finally:
        lab.ask("node", "update", "--label-rm", "color", "node3")


def test_a_reservation_nobody_can_meet_stays_pending_with_the_reason(lab: Lab) -> None:
    lab.create("huge", "--reserve-cpu", "1000")
    eventually(
        "the pending task names the resources",
        lambda: lab.tasks("huge"),
        lambda tasks: (
            [task.state for task in tasks] == ["Pending"]
            and "insufficient resources on 3 nodes" in tasks[0].error
        ),
    )
    lab.ask("service", "update", "--detach", "--reserve-cpu", "0.1", "huge")
    lab.until_running("huge", 1)
