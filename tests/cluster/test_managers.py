"""Three managers: what the swarm survives, what it says when it cannot, and that it loses nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster.lab import HOSTNAME_PAGE, Lab
from tests.cluster.waiting import eventually, throughout

pytestmark = [pytest.mark.root, pytest.mark.cluster]

NO_LEADER_SECONDS = 60.0
TAKE_OVER_SECONDS = 60.0


def _split(lab: Lab) -> tuple[str, list[str]]:
    """(leader, followers)"""
    leader = lab.until_leader()
    return leader, [node for node in lab.nodes if node != leader]


def _all_managers(lab: Lab, node: str) -> None:
    eventually(
        "three managers reach each other",
        lambda: sorted(lab.node_column("ManagerStatus", node=node).values()),
        lambda statuses: statuses == ["Leader", "Reachable", "Reachable"],
    )


def _labels(lab: Lab, service: str, node: str) -> set[str]:
    return set(
        json.loads(lab.ask("service", "inspect", "--format", "{{json .Spec.Labels}}", service, node=node))
    )


def _web(lab: Lab) -> None:
    lab.create("web", "--publish", "80:80", "--replicas", "3", *HOSTNAME_PAGE)
    lab.until_running("web", 3)
    lab.until_answered(80)


@pytest.fixture
def whole(trio: Lab) -> Iterator[Lab]:
    """The three managers; whatever a test did to them, they are three again afterwards."""
    yield trio
    trio.repair()
    trio.until_leader()
    trio.until_ready()
    _all_managers(trio, "node1")


class Writer:
    """Adds label after label to a service, at one node after the other; keeps what was confirmed."""

    def __init__(self, lab: Lab, service: str, nodes: list[str]) -> None:
        self._lab, self._service, self._nodes = lab, service, nodes
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.confirmed: set[str] = set()
        self.refused: list[str] = []

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _write(self) -> None:
        number = 0
        while not self._enough.is_set():
            number += 1
            label = f"n{number}"
            node = self._nodes[number % len(self._nodes)]
            done = self._lab.on(
                node, "service", "update", "--detach", "--label-add", f"{label}=1", self._service
            )
            if done.code == 0:
                self.confirmed.add(label)
            else:
                self.refused.append(done.err)


def test_every_manager_answers_and_writes(whole: Lab) -> None:
    for node in whole.nodes:
        whole.create(f"by-{node}", "--replicas", "0", node=node)
        starred = [row.split()[2] for row in whole.ask("node", "ls", node=node).splitlines() if " * " in row]
        assert starred == [node]
    for node in whole.nodes:
        names = whole.ask("service", "ls", "--format", "{{.Name}}", node=node).splitlines()
        assert names == ["by-node1", "by-node2", "by-node3"]


def test_the_leader_dies_and_the_others_go_on_with_everything_that_was_confirmed(whole: Lab) -> None:
    _web(whole)
    whole.ask("service", "update", "--detach", "--label-add", "last=words", "web")
    leader, others = _split(whole)
    whole.local("kill", leader)
    began = time.monotonic()
    eventually(
        "a write is accepted",
        lambda: whole.on(others[0], "service", "scale", "--detach", "web=4"),
        lambda done: done.code == 0,
    )
    assert time.monotonic() - began < TAKE_OVER_SECONDS
    assert whole.until_leader(node=others[1]) in others
    assert "last" in _labels(whole, "web", others[1])
    eventually(
        "four tasks run on the two that are left",
        lambda: whole.running("web", node=others[1]),
        lambda tasks: len(tasks) == 4 and {task.node for task in tasks} == set(others),
    )
    whole.local("start", leader)
    _all_managers(whole, others[0])
    whole.until_ready(node=leader)
    eventually("nothing runs twice", whole.containers, lambda found: sum(found.values()) == 4)
    whole.until_answered(80)


def test_without_a_majority_commands_say_so_and_the_third_heals_it(whole: Lab) -> None:
    _web(whole)
    whole.ask("service", "update", "--detach", "--label-add", "before=1", "web")
    leader, (left, other) = _split(whole)
    pids = whole.processes(left)
    whole.local("kill", leader)
    whole.local("kill", other)

    eventually(
        "the loss is noticed",
        lambda: whole.on(left, "node", "ls"),
        lambda done: done.code == 1 and "does not have a leader" in done.err,
    )
    commands = (
        ("node", "ls"),
        ("service", "ls"),
        ("service", "update", "--detach", "--label-add", "never=1", "web"),
        ("service", "create", "--detach", "--name", "never", "nginx:1.12"),
    )
    began = time.monotonic()
    with ThreadPoolExecutor(len(commands)) as pool:
        for sentence in pool.map(lambda words: whole.refusal(*words, node=left, leaderless=True), commands):
            assert "does not have a leader" in sentence
    assert time.monotonic() - began < NO_LEADER_SECONDS
    assert "swarmctl --stale" in whole.refusal("service", "ls", node=left, leaderless=True)
    stale = whole.on(left, "--stale", "service", "ls", "--format", "{{.Name}}")
    assert (stale.code, stale.out) == (0, "web\n")
    assert "as this manager knew it" in stale.err
    assert "it knows of no leader now" in stale.err
    assert "before" in json.loads(
        whole.ask("--stale", "service", "inspect", "--format", "{{json .Spec.Labels}}", "web", node=left)
    )
    assert "Managers: 3 (can lose 0)" in whole.ask("info", node=left)
    assert whole.processes(left) == pids, "containers go on without managers"
    eventually(
        "visitors are sent to the node that is left",
        lambda: [whole.answers(left, 80) for _ in range(6)],
        all,
    )
    whole.local("start", other)
    whole.until_leader(node=left)
    assert "before" in _labels(whole, "web", left)
    assert "never" not in _labels(whole, "web", left)
    assert whole.ask("service", "ls", "--format", "{{.Name}}", node=left) == "web"
    whole.ask("service", "update", "--detach", "--label-add", "after=1", "web", node=other)
    assert {"before", "after"} <= _labels(whole, "web", left)


def test_a_cut_off_leader_gives_way_and_follows_when_it_is_healed(whole: Lab) -> None:
    _web(whole)
    leader, others = _split(whole)
    whole.local("cut", leader)
    eventually(
        "a write is accepted by the majority",
        lambda: whole.on(others[0], "service", "update", "--detach", "--label-add", "majority=1", "web"),
        lambda done: done.code == 0,
    )
    words = ("service", "update", "--detach", "--label-add", "minority=1", "web")
    assert "leader" in whole.refusal(*words, node=leader, leaderless=True)
    eventually(
        "the tasks run on the majority's side",
        lambda: whole.running("web", node=others[0]),
        lambda tasks: len(tasks) == 3 and leader not in {task.node for task in tasks},
    )
    whole.local("heal", leader)
    whole.until_ready(node=others[0])
    _all_managers(whole, leader)
    for node in whole.nodes:
        labels = _labels(whole, "web", node)
        assert "majority" in labels
        assert "minority" not in labels
    eventually("nothing runs twice", whole.containers, lambda found: sum(found.values()) == 3)
    throughout("a container too many", lambda: sum(whole.containers().values()) == 3, seconds=1.5)


def test_the_leader_is_demoted_and_promoted_again(whole: Lab) -> None:
    leader, (first, second) = _split(whole)
    demoted = whole.in_the_end(first, "node", "demote", leader)
    assert "demoted" in demoted.out
    assert "2 managers can lose none" in demoted.err
    eventually(
        "it is a worker",
        lambda: whole.on(first, "node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}").lines,
        lambda lines: f"{leader} " in lines and any(line.endswith(" Leader") for line in lines),
    )
    eventually(
        "it says so itself",
        lambda: whole.on(leader, "node", "ls").err,
        lambda text: "not a swarm manager" in text,
    )
    whole.create("meanwhile", "--replicas", "0", node=second)
    whole.until_ready(node=first)
    assert "promoted" in whole.ask("node", "promote", leader, node=first)
    _all_managers(whole, first)
    eventually("it answers as a manager", lambda: whole.on(leader, "service", "ls").code == 0)
    assert whole.ask("service", "ls", "--format", "{{.Name}}", node=leader) == "meanwhile"


def test_a_drained_leader_hands_leadership_on(whole: Lab) -> None:
    leader, others = _split(whole)
    drained = whole.in_the_end(others[0], "node", "update", "--availability", "drain", leader)
    assert drained == (0, f"{leader}\n", "")
    try:
        eventually("another one leads", lambda: whole.leader(node=others[0]) in others)
        whole.create("meanwhile", "--replicas", "0", node=leader)
        assert whole.ask("service", "ls", "--format", "{{.Name}}", node=leader) == "meanwhile"
    finally:
        whole.ask("node", "update", "--availability", "active", leader, node=others[0])


def test_demoting_is_refused_when_it_would_cost_the_majority(whole: Lab) -> None:
    leader, (gone, other) = _split(whole)
    whole.local("kill", gone)
    eventually(
        "it is seen to be unreachable",
        lambda: whole.node_column("ManagerStatus", node=leader),
        lambda statuses: statuses[gone] == "Unreachable",
    )
    seen = whole.in_the_end(other, "node", "ls")
    assert f"of 3 managers, {gone} cannot be reached: the swarm can lose no more." in seen.err
    assert "WARNING" not in seen.out
    assert "loss of quorum" in whole.refusal("node", "demote", other, node=leader)
    assert "Without a Raft quorum" in whole.refusal("swarm", "leave", node=other)
    eventually(
        "it is a manager as before",
        lambda: whole.node_column("ManagerStatus", node=leader)[other],
        lambda status: status in ("Leader", "Reachable"),
    )


def test_killed_daemons_lose_no_confirmed_write_and_no_container(whole: Lab) -> None:
    _web(whole)
    tasks = sorted(task.id for task in whole.running("web"))
    pids = {node: whole.processes(node) for node in whole.nodes}
    began = time.time()
    with Writer(whole, "web", whole.nodes) as writer:
        for node in (whole.until_leader(), *whole.nodes):
            some = len(writer.confirmed) + 3
            eventually("writes are confirmed", lambda some=some: len(writer.confirmed) >= some)  # type: ignore[misc]
            whole.until_another_daemon(node, whole.kill_daemon(node))
            eventually(f"{node} answers", lambda node=node: whole.on(node, "info").code == 0)  # type: ignore[misc]
        some = len(writer.confirmed) + 3
        eventually("writes are confirmed after the last", lambda: len(writer.confirmed) >= some)
    assert len(writer.confirmed) >= 15
    for node in whole.nodes:
        labels = eventually(f"{node} answers", lambda node=node: _labels(whole, "web", node))  # type: ignore[misc]
        assert labels >= writer.confirmed, f"lost: {writer.confirmed - labels}"
    assert all("Traceback" not in text for text in writer.refused)
    whole.until_ready()
    after = sorted(task.id for task in whole.until_running("web", 3))
    eventually("nothing runs twice", whole.containers, lambda found: sum(found.values()) == 3)
    pids_after = {node: whole.processes(node) for node in whole.nodes}
    if not whole.was_missed(began):
        assert (after, pids_after) == (tasks, pids)


def test_all_daemons_killed_at_once_come_back_with_everything(whole: Lab) -> None:
    _web(whole)
    whole.ask("service", "update", "--detach", "--label-add", "kept=1", "web")
    tasks = sorted(task.id for task in whole.running("web"))
    pids = {node: whole.processes(node) for node in whole.nodes}
    began = time.time()
    for node in whole.nodes:
        whole.kill_daemon(node)
    assert whole.answers("node1", 80, seconds=20.0)
    whole.until_leader(node="node2")
    whole.until_ready(node="node2")
    assert "kept" in _labels(whole, "web", "node3")
    after = sorted(task.id for task in whole.until_running("web", 3, node="node2"))
    pids_after = {node: whole.processes(node) for node in whole.nodes}
    if not whole.was_missed(began):
        assert (after, pids_after) == (tasks, pids)
