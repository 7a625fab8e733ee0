"""Faults of the network as a user finds them: what the doctor says, and where a packet would go."""

from __future__ import annotations

import json

import pytest

from tests.cluster.lab import Lab
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster]


def test_the_doctor_finds_a_closed_port_and_a_trace_says_who_answers(lab: Lab) -> None:
    lab.ask("network", "create", "front")
    try:
        lab.create("api", "--replicas", "2", "--network", "name=front,alias=backend")
        lab.create("web", "--network", "front")
        lab.until_running("api", 2)
        lab.until_running("web", 1)
        found = eventually(
            "a packet arrives",
            lambda: json.loads(lab.on("node1", "network", "trace", "--json", "web.1", "backend:80").out),
            lambda found: found["Verdict"] == "arrives",
        )
        assert "an alias of service api in network front" in json.dumps(found["Steps"])
        refused = lab.on("node1", "network", "trace", "web.1", "10.128.99.9")
        assert (refused.code, "nobody has now" in refused.out) == (1, True)
        eventually(
            "nothing is wrong",
            lambda: lab.on("node1", "network", "doctor").out,
            lambda text: text.endswith("Nothing is wrong.\n"),
        )
        with_fault(lab)
    finally:
        for service in ("api", "web"):
            lab.on("node1", "service", "rm", service)
        eventually("the network is gone", lambda: lab.on("node1", "network", "rm", "front").code == 0)


def with_fault(lab: Lab) -> None:
    lab.inside("node2", "nft", "add table ip foreign")
    try:
        lab.inside("node2", "nft", "add chain ip foreign i { type filter hook input priority -300; }")
        lab.inside("node2", "nft", "add rule ip foreign i udp dport 4789 drop")
        done = lab.on("node1", "network", "doctor", "--json")
        assert done.code == 1
        kinds = {one["Kind"] for one in json.loads(done.out)["Findings"] if one["Severity"] == "problem"}
        assert "data-path" in kinds
    finally:
        lab.inside("node2", "nft", "delete table ip foreign")
