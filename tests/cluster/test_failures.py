"""What dies, and what the swarm does about it: nodes, daemons, cables."""

from __future__ import annotations

import time

import pytest

from tests.cluster.lab import HOSTNAME_PAGE, Lab
from tests.cluster.waiting import eventually, throughout

pytestmark = [pytest.mark.root, pytest.mark.cluster]


def _five(lab: Lab) -> None:
    lab.create("web", "--publish", "80:80", "--replicas", "5", *HOSTNAME_PAGE)
    lab.until_running("web", 5)
    lab.until_answered(80)


def _runs_without(lab: Lab, node: str) -> None:
    eventually(
        f"five tasks run, none on {node}",
        lambda: lab.running("web"),
        lambda tasks: len(tasks) == 5 and node not in {task.node for task in tasks},
    )


def _nothing_runs_twice(lab: Lab) -> None:
    """Five containers, exactly those of the five tasks; and it stays so."""
    eventually("five containers run", lab.containers, lambda found: sum(found.values()) == 5)

    def agree() -> bool:
        wanted = dict.fromkeys(lab.nodes, 0)
        for task in lab.running("web"):
            wanted[task.node] += 1
        return lab.containers() == wanted

    eventually("the containers are those of the tasks", agree)
    throughout("a container too many", lambda: sum(lab.containers().values()) == 5, seconds=1.5)


def test_a_dead_workers_tasks_run_elsewhere_and_nothing_runs_twice_when_it_is_back(lab: Lab) -> None:
    _five(lab)
    lab.local("kill", "node3")
    lab.until_node("node3", "Down")
    _runs_without(lab, "node3")
    for node in ("node1", "node2"):
        eventually(
            f"{node} sends visitors to those that are left",
            lambda node=node: {lab.get(node, 80).page for _ in range(40)},  # type: ignore[misc]
            lambda pages: pages == {"node1", "node2"},
        )
    lab.local("start", "node3")
    lab.until_node("node3", "Ready")
    _nothing_runs_twice(lab)
    lab.until_answered(80)
    lab.ask("service", "scale", "--detach", "web=6")
    assert "node3" in {task.node for task in lab.until_running("web", 6)}


def test_a_cut_off_workers_tasks_run_elsewhere_and_nothing_runs_twice_when_it_is_healed(lab: Lab) -> None:
    _five(lab)
    lab.local("cut", "node2")
    try:
        lab.until_node("node2", "Down")
        _runs_without(lab, "node2")
        assert lab.processes("node2"), "a node that is cut off keeps what it has"
        eventually(
            "node2 says what it misses",
            lambda: lab.on("node2", "info").out,
            lambda text: "Error: no manager can be reached" in text,
        )
    finally:
        lab.local("heal", "node2")
    lab.until_node("node2", "Ready")
    _nothing_runs_twice(lab)
    lab.until_answered(80)


@pytest.mark.parametrize("node", ["node1", "node2"], ids=["the manager", "a worker"])
def test_the_containers_of_a_killed_daemon_run_on_and_are_found_again(lab: Lab, node: str) -> None:
    _five(lab)
    tasks = sorted(task.id for task in lab.running("web"))
    pids = lab.processes(node)
    assert pids
    began, killed = time.time(), lab.kill_daemon(node)
    assert lab.answers("node3", 80, seconds=20.0)
    lab.until_another_daemon(node, killed)
    eventually("it answers", lambda: lab.on(node, "info").code == 0)
    lab.until_ready()
    lab.until_running("web", 5)
    after = (sorted(task.id for task in lab.running("web")), lab.processes(node), len(lab.tasks("web")))
    if not lab.was_missed(began):
        assert after == (tasks, pids, 5), "no task was replaced"
    else:
        _nothing_runs_twice(lab)
    lab.until_answered(80)


def test_a_paused_worker_is_replaced_and_gives_up_what_it_had_when_it_wakes(lab: Lab) -> None:
    _five(lab)
    lab.local("pause", "node3")
    try:
        lab.until_node("node3", "Down")
        _runs_without(lab, "node3")
    finally:
        lab.local("unpause", "node3")
    lab.until_node("node3", "Ready")
    _nothing_runs_twice(lab)


def test_a_container_that_dies_is_restarted_with_its_exit_code_in_the_history(lab: Lab) -> None:
    lab.create("mortal", "--restart-delay", "200ms", "--constraint", "node.hostname==node2")
    lab.until_running("mortal", 1)
    (pid,) = lab.processes("node2")
    lab.inside("node2", "kill", "-9", pid)
    eventually(
        "a second task runs",
        lambda: lab.tasks("mortal"),
        lambda tasks: [task.state for task in tasks] == ["Running", "Failed"] and "137" in tasks[1].error,
    )
