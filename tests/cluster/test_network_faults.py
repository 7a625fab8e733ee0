"""A swarm whose network is mistreated from all sides is whole again, and says so itself."""

from __future__ import annotations

import json

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
    leader = next(name for name, rank in trio.node_column("ManagerStatus").items() if rank == "Leader")
    try:
        for node in trio.nodes:
            assert trio.inside(node, "nft", LOSSY).code == 0
        trio.ask("service", "update", "--detach", "--force", "--update-parallelism", "2", "web")
        trio.kill_daemon(leader)
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
