"""A wall clock that is wrong by more than a certificate lives: on one machine, then on all of them."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.clocks import FOLLOWING, LIBFAKETIME, set_clock
from tests.cluster.clusters import Clusters
from tests.cluster.lab import Lab
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster]

HUNDRED_DAYS = 100 * 86400
RARELY_SECONDS = 240.0
"""A node looks at its certificate once a minute, and is Down some 15 s after its last sign of life."""


@pytest.fixture
def timed(clusters: Clusters) -> Iterator[Lab]:
    """Three managers, whose daemons' wall clocks follow a file each."""
    if LIBFAKETIME is None:
        pytest.skip("libfaketime is not installed: `make test` installs it")
    clusters.close()
    root = Path(tempfile.mkdtemp(prefix="clk", dir="/var/tmp"))
    lab = Lab(f"clk{os.getpid() % 10000}", root)
    try:
        lab.up(nodes=3, managers=3, images=[])
        for node in lab.nodes:
            lab.local("stop", node)
        record = lab.directory("node1").parent / "cluster.json"
        cluster = json.loads(record.read_text())
        cluster["daemon"] = ["/usr/bin/env", *FOLLOWING, *cluster["daemon"]]
        record.write_text(json.dumps(cluster))
        for node in lab.nodes:
            _set(lab, node, 0)
        lab.start_all(*lab.nodes)
        _whole(lab, "node1")
        yield lab
    finally:
        lab.down()
        shutil.rmtree(root)


def _set(lab: Lab, node: str, offset: int) -> None:
    set_clock(lab.directory(node) / "data", offset)


def _managers(lab: Lab, node: str) -> list[str]:
    done = lab.on(node, "node", "ls", "--format", "{{.ManagerStatus}}")
    return sorted(done.lines)


def _whole(lab: Lab, node: str) -> None:
    eventually(
        "three managers reach each other",
        lambda: _managers(lab, node),
        lambda found: found == ["Leader", "Reachable", "Reachable"],
    )


def _ends(lab: Lab, node: str) -> str:
    """When the certificate of ``node`` ends, as it says itself; "" while nobody leads."""
    done = lab.on(node, "node", "inspect", node)
    return str(json.loads(done.out)[0]["Description"]["TLSInfo"]["CertExpiry"]) if done.code == 0 else ""


def _until(lab: Lab, name: str, status: str, *, node: str) -> None:
    """Wait until ``node`` shows ``name`` so; the one with the wrong clock may lead for a moment meanwhile."""
    eventually(
        f"{name} is {status}",
        lambda: lab.on(node, "node", "ls", "--format", "{{.Hostname}} {{.Status}}").lines,
        lambda lines: f"{name} {status}" in lines,
        seconds=RARELY_SECONDS,
    )


@pytest.mark.timeout(600)
def test_a_clock_a_hundred_days_ahead_costs_nobody_the_swarm_on_one_node_or_on_all(timed: Lab) -> None:
    leader = timed.until_leader()
    wrong, third = (node for node in timed.nodes if node != leader)
    _set(timed, wrong, HUNDRED_DAYS)
    _until(timed, wrong, "Down", node=third)
    for number, node in enumerate((leader, third)):
        timed.ask(
            "service", "create", "--detach", "--replicas", "0", "--name", f"s{number}", "busybox", node=node
        )
    _set(timed, wrong, 0)
    _until(timed, wrong, "Ready", node=third)
    _whole(timed, wrong)
    assert timed.ask("service", "ls", "--format", "{{.Name}}", node=wrong).split() == ["s0", "s1"]

    for node in timed.nodes:
        _set(timed, node, HUNDRED_DAYS)
    then = datetime.datetime.fromtimestamp(time.time() + HUNDRED_DAYS, datetime.UTC)
    for node in timed.nodes:
        eventually(
            f"{node} has a certificate that is valid then",
            lambda node=node: _ends(timed, node),  # type: ignore[misc]
            lambda end: end > f"{then:%Y-%m-%dT%H:%M:%SZ}",
            seconds=RARELY_SECONDS,
        )
        _whole(timed, node)
    timed.until_ready()
    # All of them have taken new certificates just now: one more leader may be lost on the way.
    eventually(
        "the swarm takes what it is asked to do",
        lambda: timed.on(third, "service", "rm", "s0", "s1") and timed.on(third, "service", "ls", "--quiet"),
        lambda done: (done.code, done.out) == (0, ""),
    )
