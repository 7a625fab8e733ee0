"""What the audit log says of connections that the cluster port did not let in."""

from __future__ import annotations

import json
from typing import Any

from swarmd.api.audit import Trail
from swarmd.api.core.flood import MOST
from swarmd.rpc.peer import Identity
from tests.unit.test_control_bed import ManualClock

FAILED = "the TLS handshake failed: certificate has expired"


def trail_into(lines: list[dict[str, Any]]) -> Trail:
    return Trail(lambda line: lines.append(json.loads(line)), ManualClock(), lambda: "r1", lambda: "n1")


def test_a_refused_connection_is_recorded_with_its_address_and_whom_its_certificate_names() -> None:
    lines: list[dict[str, Any]] = []
    trail = trail_into(lines)
    trail.refused_connection("10.0.0.9", None, FAILED)
    trail.refused_connection("10.0.0.8", Identity("w1", "swarm-worker", "c1"), "This lane is for managers")
    assert [(line["method"], line["outcome"]) for line in lines] == [("ClusterPort/Connect", "denied")] * 2
    assert lines[0]["caller"] == {"kind": "stranger", "address": "10.0.0.9"}
    assert lines[0]["error"] == FAILED
    assert lines[1]["caller"] == {"kind": "node", "node": "w1", "role": "worker", "address": "10.0.0.8"}


def test_of_one_source_only_so_many_are_recorded_and_another_is_still_heard() -> None:
    lines: list[dict[str, Any]] = []
    trail = trail_into(lines)
    for _ in range(MOST + 5):
        trail.refused_connection("10.0.0.9", None, FAILED)
    assert len(lines) == MOST
    trail.refused_connection("10.0.0.7", None, FAILED)
    assert len(lines) == MOST + 1
