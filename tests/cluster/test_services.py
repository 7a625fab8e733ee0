"""A service in a swarm of three nodes: made, reached, scaled, read, removed."""

from __future__ import annotations

import select
from collections import Counter

import pytest

from tests.cluster.lab import HOSTNAME_PAGE, Lab
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster]


def test_the_star_marks_the_node_that_answers(lab: Lab) -> None:
    rows = lab.ask("node", "ls").splitlines()
    assert rows[0].split()[:3] == ["ID", "HOSTNAME", "STATUS"]
    starred = [row.split() for row in rows if " * " in row]
    assert [row[2] for row in starred] == ["node1"]
    assert lab.node_column("ManagerStatus") == {"node1": "Leader", "node2": "", "node3": ""}


def test_a_node_is_inspected_and_its_tasks_listed(lab: Lab) -> None:
    lab.create("listed", "--constraint", "node.hostname==node2")
    (task,) = lab.until_running("listed", 1)
    assert lab.ask("node", "inspect", "--format", "{{.Description.Hostname}}", "self") == "node1"
    pretty = lab.ask("node", "inspect", "--pretty", "node2")
    assert "node2" in pretty
    assert lab.addresses["node2"] in pretty
    assert lab.ask("node", "ps", "--format", "{{.Name}}", "node2") == "listed.1"
    assert lab.ask("node", "ps", "-q", "node3") == ""
    assert task.node == "node2"


def test_one_replica_answers_on_every_nodes_address_with_the_name_of_its_node(lab: Lab) -> None:
    lab.create("one", "--publish", "80:80", *HOSTNAME_PAGE)
    (task,) = lab.until_running("one", 1)
    assert lab.ask("service", "ls", "--format", "{{.Name}} {{.Replicas}} {{.Image}} {{.Ports}}") == (
        "one 1/1 nginx:1.12 *:80->80/tcp"
    )
    pretty = lab.ask("service", "inspect", "--pretty", "one")
    for part in ("one", "Replicated", "PublishedPort = 80", "nginx:1.12", "/etc/hostname"):
        assert part in pretty
    lab.until_answered(80)
    assert {node: lab.get(node, 80).page for node in lab.nodes} == dict.fromkeys(lab.nodes, task.node)


def test_scaling_fills_the_emptiest_node_first_and_any_address_reaches_all(lab: Lab) -> None:
    lab.create("wide", "--publish", "80:80", "--replicas", "2", *HOSTNAME_PAGE)
    first = {task.node for task in lab.until_running("wide", 2)}
    assert len(first) == 2
    lab.ask("service", "scale", "--detach", "wide=3")
    assert {task.node for task in lab.until_running("wide", 3)} == set(lab.nodes)
    lab.ask("service", "update", "--detach", "--replicas=5", "wide")
    counts = Counter(task.node for task in lab.until_running("wide", 5))
    assert sorted(counts.values()) == [1, 2, 2]
    for node in lab.nodes:
        eventually(
            f"{node} passes requests on to all nodes",
            lambda node=node: {lab.get(node, 80).page for _ in range(12)},  # type: ignore[misc]
            lambda pages: pages == set(lab.nodes),
        )
    lab.ask("service", "scale", "--detach", "wide=1")
    lab.until_running("wide", 1)
    eventually("one nginx is left", lab.containers, lambda found: sum(found.values()) == 1)


def test_logs_show_the_lines_of_every_task_and_follow_shows_the_next_one(lab: Lab) -> None:
    lab.create("told", "--publish", "80:80", "--replicas", "3")
    tasks = lab.until_running("told", 3)
    lab.until_answered(80)
    prefixes = {f"{task.name}.{task.id[:12]}@{task.node}" for task in tasks}

    def lines(*flags: str) -> list[str]:
        """What went to the tasks' standard output, and to their standard error."""
        done = lab.on("node1", "service", "logs", *flags, "told")
        assert done.code == 0, done
        return [*done.out.splitlines(), *done.err.splitlines()]

    def heads() -> set[str]:
        return {line.split(" ")[0] for line in lines()}

    assert eventually("each task has said something", heads, lambda seen: seen >= prefixes) == prefixes
    assert {line.split(" ")[0] for line in lines("--tail", "1")} == prefixes
    assert len(lines("--tail", "1")) == 3
    assert all(line[:2] == "20" and line[10] == "T" for line in lines("-t", "--tail", "1"))
    with lab.going("node1", "service", "logs", "-f", "--tail", "0", "told") as follower:
        output = follower.stdout
        assert output is not None

        def heard() -> bool:
            # What was written before it listened is not shown: request until something is.
            lab.get("node2", 80)
            return bool(select.select([output], [], [], 0)[0])

        eventually("the follower shows a request", heard)
        line = output.readline()
    assert line.split(" ")[0] in prefixes
    assert "GET / HTTP/1.1" in line


def test_a_taken_port_on_a_node_is_told_and_left_to_its_owner(lab: Lab) -> None:
    with lab.listening("node2", 8099):
        lab.create("late", "--publish", "8099:80", "--replicas", "2", *HOSTNAME_PAGE)
        lab.until_running("late", 2)
        sentence = eventually(
            "node2 tells of the port",
            lambda: lab.on("node2", "info").err,
            lambda text: "8099" in text,
        )
        assert "another process" in sentence
        for node in ("node1", "node3"):
            eventually(f"{node} serves the service", lambda node=node: lab.answers(node, 8099))  # type: ignore[misc]
            assert lab.get(node, 8099).image == "nginx:1.12"
        assert lab.get("node2", 8099).image == "", "the other program's visitors were taken away"
    eventually("node2 serves it too", lambda: lab.answers("node2", 8099) and lab.get("node2", 8099).image)
    eventually(
        "nothing is told any more", lambda: lab.on("node2", "info").err, lambda text: "8099" not in text
    )


def _traces(lab: Lab, node: str, port: int) -> dict[str, list[str]]:
    """What there is on a node of any service, and of that published port."""
    links = lab.inside(node, "ls", "/sys/class/net").out.split()
    listeners = lab.inside(node, "ss", "-ltnH").out.splitlines()
    rules = lab.inside(node, "nft", "list", "ruleset").out.splitlines()
    return {
        "links": [link for link in links if link.startswith("r") and link[1:].isdigit()],
        "cgroups": lab.inside(
            node, "find", "/sys/fs/cgroup", "-path", "*/swarmd/*", "-type", "d"
        ).out.split(),
        "containers": [path.name for path in (lab.directory(node) / "data" / "containers").iterdir()],
        "listeners": [line for line in listeners if f":{port} " in line],
        "rules": [line for line in rules if str(port) in line],
    }


def test_a_removed_service_leaves_nothing_on_any_node(lab: Lab) -> None:
    def nothing(node: str) -> None:
        eventually(
            f"nothing is on {node}",
            lambda: _traces(lab, node, 8077),
            lambda found: not any(found.values()),
        )

    for node in lab.nodes:
        nothing(node)
    lab.create("brief", "--publish", "8077:80", "--replicas", "3")
    tasks = lab.until_running("brief", 3)
    lab.until_answered(8077)
    for task in tasks:
        here = _traces(lab, task.node, 8077)
        assert here["containers"] == [task.id]
        assert any(task.id in path for path in here["cgroups"])
        assert len(here["links"]) == 1
        assert here["listeners"]
        assert here["rules"]
    lab.ask("service", "rm", "brief")
    for node in lab.nodes:
        nothing(node)
        assert lab.refuses(node, 8077)
