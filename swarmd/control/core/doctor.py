"""Decide which ways between nodes are tried, and what the nodes' reports say is wrong.

A cause is told once: a node that nobody reaches is one finding, not one for each that tried, and so is what
is wrong in both directions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from swarmd.control.core.doctor_ways import NOTICE, OPEN_NODE_PORT, PROBLEM, of_ways
from swarmd.rpc.v1 import netdiag_pb2 as pb

MOST = 64
"""Others that a node tries to reach; in a larger swarm they are spread evenly over it."""

_FULL, _NEARLY = 0.95, 0.75
_NAMES = 5


def targets(node_ids: Sequence[str], most: int = MOST) -> dict[str, tuple[str, ...]]:
    """For each node whom it tries to reach: all others, or ``most`` of them."""
    count = len(node_ids)
    steps: Iterable[int] = range(1, count)
    if count - 1 > most:
        steps = sorted({1 + place * (count - 2) // (most - 1) for place in range(most)})
    return {
        one: tuple(node_ids[(place + step) % count] for step in steps) for place, one in enumerate(node_ids)
    }


def findings(nodes: Sequence[pb.ExaminedNode]) -> list[pb.NetworkFinding]:
    """Everything that is wrong or not known: problems first, then notices, in the order of the nodes."""
    names = {one.id: one.hostname or one.id for one in nodes}
    alike: dict[tuple[str, str, str, str], list[str]] = {}
    for one in nodes:
        for said in _of_node(one):
            alike.setdefault((said.severity, said.kind, said.text, said.advice), []).append(one.id)
    found = [
        pb.NetworkFinding(
            severity=severity,
            kind=kind,
            node_id=by[0] if len(by) == 1 else "",
            text=f"{_named([names[one] for one in by])}: {text}",
            advice=advice,
        )
        for (severity, kind, text, advice), by in alike.items()
    ]
    return in_order([*found, *of_ways(nodes)])


def _named(names: Sequence[str]) -> str:
    return (
        ", ".join(names)
        if len(names) <= _NAMES
        else f"{', '.join(names[:_NAMES])} and {len(names) - _NAMES} more"
    )


def in_order(found: Iterable[pb.NetworkFinding]) -> list[pb.NetworkFinding]:
    """Problems first; otherwise as they are."""
    return sorted(found, key=lambda one: one.severity != PROBLEM)


def is_well(found: Iterable[pb.NetworkFinding]) -> bool:
    """Nothing is wrong; what was only noticed is not."""
    return all(one.severity != PROBLEM for one in found)


def _of_node(one: pb.ExaminedNode) -> Iterator[pb.NetworkFinding]:
    report = one.report

    def finding(severity: str, kind: str, text: str, advice: str = "") -> pb.NetworkFinding:
        return pb.NetworkFinding(severity=severity, kind=kind, text=text, advice=advice)

    if one.state == "down":
        yield finding(PROBLEM, "down", "the node is down", "start its daemon, or remove the node")
        return
    if one.error:
        yield finding(PROBLEM, "silent", f"the node cannot be asked: {one.error}", OPEN_NODE_PORT)
        return
    if not report.applied:
        text = f"snapshot {report.snapshot} of the network has not been applied in full"
        yield finding(PROBLEM, "snapshot", text, "its daemon tries again by itself; its log says why")
    for text in report.differences:
        yield finding(PROBLEM, "rules", text, "its daemon repairs this within seconds; ask again")
    for text in report.problems:
        yield finding(PROBLEM, "node", text)
    if report.conntrack_max and report.conntrack >= _NEARLY * report.conntrack_max:
        full = report.conntrack >= _FULL * report.conntrack_max
        yield finding(
            PROBLEM if full else NOTICE,
            "conntrack",
            f"{report.conntrack} of {report.conntrack_max} connections are tracked; "
            "the kernel drops new ones when there is no room for more",
            "raise net.netfilter.nf_conntrack_max",
        )
    for text in report.limits:
        yield finding(NOTICE, "limit", text)
    for text in report.unchecked:
        yield finding(NOTICE, "unchecked", f"not checked: {text}")
