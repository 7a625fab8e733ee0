"""Managers get other addresses, one after another, and the swarm follows."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.clusters import IMAGES, Clusters
from tests.cluster.lab import HOSTNAME_PAGE, Lab
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture
def movable(clusters: Clusters) -> Iterator[Lab]:
    """Three managers that have the address of their interface, whatever it is when their daemon starts."""
    clusters.close()
    root = Path(tempfile.mkdtemp(prefix="mov", dir="/var/tmp"))
    lab = Lab(f"mov{os.getpid() % 10000}", root)
    try:
        lab.up(nodes=3, managers=3, images=[IMAGES / "nginx-1.12.tar"])
        record = json.loads(_record(lab).read_text())
        record["daemon"] += ["--advertise-addr", "eth0"]
        _record(lab).write_text(json.dumps(record))
        yield lab
    finally:
        lab.down()
        shutil.rmtree(root)


def _record(lab: Lab) -> Path:
    """What ``swarmctl local`` knows of the cluster."""
    return lab.directory("node1").parent / "cluster.json"


def _move(lab: Lab, node: str) -> str:
    """Switch ``node`` off and, with an address that no node had, on again; answers that address."""
    lab.local("stop", node)
    record = json.loads(_record(lab).read_text())
    fresh = str(max(ipaddress.IPv4Address(each["address"]) for each in record["nodes"]) + 20)
    next(each for each in record["nodes"] if each["name"].endswith(node))["address"] = fresh
    _record(lab).write_text(json.dumps(record))
    lab.local("start", node)
    assert lab.addresses[node] == fresh
    return fresh


def _whole(lab: Lab) -> None:
    """Every manager reaches the others, and takes a write."""
    for node in lab.nodes:
        eventually(
            f"{node} knows three managers",
            lambda node=node: sorted(lab.node_column("ManagerStatus", node=node).values()),  # type: ignore[misc]
            lambda found: found == ["Leader", "Reachable", "Reachable"],
        )
        lab.ask("node", "update", "--label-add", f"seen-by-{node}=yes", "node1", node=node)
    lab.until_ready()


def test_followers_and_the_leader_move_one_after_another_and_the_swarm_follows(movable: Lab) -> None:
    lab = movable
    lab.create("web", "--publish", "80:80", "--mode", "global", *HOSTNAME_PAGE)
    lab.until_running("web", 3)
    leader = lab.until_leader()
    order = [*(node for node in lab.nodes if node != leader), leader]
    for node in order:
        moved = _move(lab, node)
        _whole(lab)
        for other in lab.nodes:
            words = ("node", "inspect", "--format", "{{.Status.Addr}}", node)
            eventually(
                f"{other} knows that {node} is at {moved}",
                lambda words=words, other=other: lab.ask(*words, node=other),  # type: ignore[misc]
                lambda shown, moved=moved: shown == moved,  # type: ignore[misc]
            )
        lab.until_running("web", 3)
        eventually("visitors find it where it is now", lambda node=node: lab.answers(node, 80))  # type: ignore[misc]
    # All of them are elsewhere now than when they met: what each remembers is enough to meet again.
    for node in lab.nodes:
        lab.local("kill", node)
    lab.start_all(*lab.nodes)
    _whole(lab)
    lab.until_answered(80)
