"""A swarm whose network is mistreated from all sides is whole again, and says so itself."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from tests.cluster.lab import HOSTNAME_PAGE, Lab
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster]

LOSSY = (
    "add table inet lossy; add chain inet lossy in { type filter hook input priority -400; }; "
    + "; ".join(
        f"add rule inet lossy in {what} numgen random mod 10 < 3 drop"
        for what in ("tcp dport { 2377, 7946 }", "udp dport 7946")
    )
)
"""Three of ten control messages are lost."""


def _wrong(lab: Lab) -> dict[str, object]:
    """What the doctor finds that a node's kernel has otherwise than it was told, by node."""
    done = lab.on("node1", "network", "doctor", "--json")
    if not done.out:
        return {"doctor": done.err}
    nodes = json.loads(done.out)["Nodes"]
    return {
        one["Hostname"]: one["Error"] or one["Differences"] or one["State"]
        for one in nodes
        if one["Error"] or one["Differences"] or not one["Audited"] or not one["Applied"]
    }


def test_after_lost_messages_dead_daemons_a_flush_and_a_new_leader_every_kernel_is_as_it_was_told(
    trio: Lab,
) -> None:
    trio.create("web", "--publish", "80:80", "--replicas", "3", *HOSTNAME_PAGE)
    trio.until_running("web", 3)
    trio.until_answered(80)
    eventually("the kernels are as they were told", lambda: _wrong(trio), lambda found: not found)
    leader = trio.until_leader()
    try:
        for node in trio.nodes:
            assert trio.inside(node, "nft", LOSSY).code == 0
        trio.ask("service", "update", "--detach", "--force", "--update-parallelism", "2", "web")
        # The leader first, so that there is a new one while messages are lost; then the rest in any order.
        others = [node for node in trio.nodes if node != leader]
        for node in (leader, *random.Random(5).sample(others, len(others))):
            trio.kill_daemon(node)
        assert trio.inside("node2", "nft", "flush", "ruleset").code == 0
        assert trio.inside("node3", "ip", "route", "flush", "proto", "83").code == 0
    finally:
        for node in trio.nodes:
            trio.inside(node, "nft", "delete", "table", "inet", "lossy")
    for node in trio.nodes:
        eventually(f"{node} answers", lambda node=node: trio.on(node, "node", "ls").code == 0)  # type: ignore[misc]
    trio.until_ready()
    trio.until_running("web", 3)
    eventually("the kernels are as they were told", lambda: _wrong(trio), lambda found: not found)
    trio.until_answered(80)


NOWHERE = ("--constraint", "node.labels.nowhere==yes")
SERVICES, REPLICAS = 6, 50
ADDRESSES = 253
"""Of a /24 without network, gateway and broadcast address."""
FULL = (
    f"network narrow (10.77.0.0/24) has no free address: it gives {ADDRESSES}. "
    "Remove tasks from it, or take a network with a larger subnet"
)


def _addresses(lab: Lab, node: str) -> tuple[list[str], list[str]]:
    """Of all tasks, and of all services, in the network ``narrow``; none when the manager does not say."""
    done = lab.on(node, "network", "inspect", "--verbose", "narrow")
    if done.code:
        return [], []
    (seen,) = json.loads(done.out)
    services = seen["Services"].values()
    tasks = [task["EndpointIP"] for service in services for task in service["Tasks"]]
    return tasks, [service["VIP"] for service in services if service["VIP"]]


def test_a_leader_that_dies_while_it_gives_addresses_gives_none_twice_and_the_next_one_gives_all(
    trio: Lab,
) -> None:
    trio.ask("network", "create", "--subnet", "10.77.0.0/24", "narrow")
    leader = trio.until_leader()
    node = next(name for name in trio.nodes if name != leader)
    names = [f"many{number}" for number in range(SERVICES)]
    try:
        for name in names:
            words = ("--no-resolve-image", "--network", "narrow", "--replicas", str(REPLICAS), *NOWHERE)
            if name == names[SERVICES // 2]:
                trio.kill_daemon(leader)
            eventually(
                f"{name} is made",
                lambda name=name, words=words: trio.on(  # type: ignore[misc]
                    node, "service", "create", "--detach", "--name", name, *words, "nginx:1.12"
                ),
                lambda done: done.code == 0 or "already exists" in done.err,
            )
        tasks, services = eventually(
            "every address is given",
            lambda: _addresses(trio, node),
            lambda given: len(given[0]) + len(given[1]) >= ADDRESSES,
        )
        assert [one for one, count in Counter(tasks + services).items() if count > 1] == []
        errors = eventually(
            "each of the others says why it waits",
            lambda: Counter(task.error.strip('"') for name in names for task in trio.tasks(name, node=node)),
            lambda errors: errors[FULL] >= SERVICES * REPLICAS - len(tasks),
        )
        assert errors.total() == SERVICES * REPLICAS
    finally:
        trio.ask("service", "rm", *names, node=node)
        eventually("it is free", lambda: trio.on(node, "network", "rm", "narrow").code == 0)
        eventually(f"{leader} answers", lambda: trio.on(leader, "node", "ls").code == 0)
