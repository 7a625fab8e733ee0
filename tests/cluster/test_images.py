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
