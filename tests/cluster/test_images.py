"""Images in the swarm without a registry outside: what one node had runs everywhere and outlives it."""

from __future__ import annotations

import pytest

from tests.cluster.clusters import IMAGES
from tests.cluster.lab import Lab
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster]


def test_an_image_that_one_node_had_outlives_that_node(trio: Lab) -> None:
    trio.ask("image", "load", "-q", "-i", str(IMAGES / "busybox.tar"), node="node3")
    trio.ask(
        "service", "create", "--detach", "--name", "made", "--constraint", "node.hostname==node3",
        "busybox:latest", "sleep", "1000",
    )  # fmt: skip
    trio.until_running("made", 1)
    trio.local("kill", "node3")
    trio.ask("service", "update", "--detach", "--constraint-rm", "node.hostname==node3", "made")
    eventually(
        "it runs elsewhere",
        lambda: {task.node for task in trio.running("made")},
        lambda nodes: bool(nodes & {"node1", "node2"}),
    )
    pinned = trio.ask("service", "inspect", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Image}}", "made")
    told = trio.ask("image", "preload", pinned.strip(), "--constraint", "node.hostname!=node3")
    assert sorted(line for line in told.splitlines() if line.endswith("done")) == [
        "node1: done",
        "node2: done",
    ]


def test_what_was_pushed_to_one_node_runs_everywhere_and_outlives_that_node(trio: Lab) -> None:
    archive = f"docker-archive:{IMAGES / 'busybox.tar'}"
    copy = ("skopeo", "copy", "--quiet", "--dest-tls-verify=false", archive)
    eventually(
        "it is pushed",
        lambda: trio.inside("node2", *copy, "docker://localhost:5000/team/app:1"),
        lambda done: done.code == 0,
    )
    assert [line.split()[:2] for line in trio.ask("registry", "ls").splitlines()[1:]] == [["team/app", "1"]]
    trio.until_ready()  # a new leader places nothing where it has heard nobody yet
    trio.ask(
        "service", "create", "--detach", "--name", "pushed", "--replicas", "3",
        "localhost:5000/team/app:1", "sleep", "1000",
    )  # fmt: skip
    assert {task.node for task in trio.until_running("pushed", 3)} == {"node1", "node2", "node3"}
    trio.local("kill", "node2")
    trio.ask("service", "scale", "--detach", "pushed=5")
    eventually(
        "five run on the others",
        lambda: [task.node for task in trio.running("pushed") if task.node != "node2"],
        lambda nodes: len(nodes) == 5,
    )
    done = trio.inside("node3", "curl", "-s", "http://localhost:5000/v2/team/app/tags/list")
    assert '"tags":["1"]' in done.out, done
    assert "Untagged: team/app:1" in trio.ask("registry", "rm", "team/app")
    assert trio.ask("registry", "ls").splitlines()[1:] == []
    assert len(trio.running("pushed", node="node3")) == 5, "what runs stays"
