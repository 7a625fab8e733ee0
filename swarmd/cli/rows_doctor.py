"""What ``network doctor`` and ``network trace`` print: tables and sentences, or JSON.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarmd.cli.table import layout
from swarmd.cli.views_container import Json

if TYPE_CHECKING:
    from swarmd.rpc.v1 import netdiag_pb2

_HEAD = ("NODE", "ADDRESS", "STATE", "SNAPSHOT", "RULES", "MTU", "OVERLAY", "CONNTRACK", "WAYS")
_VERDICTS = {
    "arrives": "It arrives",
    "refused": "It is refused",
    "leaves": "It leaves the swarm",
    "unknown": "It cannot be told from the swarm's side",
}


def is_well(answer: netdiag_pb2.ExamineNetworkResponse) -> bool:
    """Nothing is wrong."""
    return all(one.severity != "problem" for one in answer.findings)


def lines(answer: netdiag_pb2.ExamineNetworkResponse) -> list[str]:
    """A table of the nodes, then what was found, as sentences."""
    if not answer.nodes:
        return ["No node has tasks in this network, so there is nothing to look at."]
    out = layout([_HEAD, *(_row(one) for one in answer.nodes)])
    if answer.tried < answer.ways:
        out.append(f"\n{answer.tried} of {answer.ways} ways between two nodes were tried.")
    for severity, title in (("problem", "Problems"), ("notice", "To know")):
        found = [one for one in answer.findings if one.severity == severity]
        if found:
            out.append(f"\n{title}:")
            out += [line for one in found for line in _sentences(one)]
    if is_well(answer):
        out.append("\nNothing is wrong.")
    return out


def as_json(answer: netdiag_pb2.ExamineNetworkResponse) -> Json:
    """The whole; keys are never taken away."""
    return {
        "Well": is_well(answer),
        "Ways": {"Tried": answer.tried, "All": answer.ways},
        "Findings": [
            {
                "Severity": one.severity,
                "Kind": one.kind,
                "NodeID": one.node_id,
                "PeerID": one.peer_id,
                "Text": one.text,
                "Advice": one.advice,
            }
            for one in answer.findings
        ],
        "Nodes": [_node(one) for one in answer.nodes],
    }


def trace_lines(answer: netdiag_pb2.TracePacketResponse) -> list[str]:
    """One line a step, ``x`` before what stops the packet; the verdict last."""
    out = [f"{'x' if step.refused else ' '} {step.kind.ljust(9)}{step.text}" for step in answer.steps]
    return [*out, "", f"{_VERDICTS.get(answer.verdict, answer.verdict)}: {answer.conclusion}."]


def trace_json(answer: netdiag_pb2.TracePacketResponse) -> Json:
    """The steps and the verdict."""
    return {
        "Verdict": answer.verdict,
        "Conclusion": answer.conclusion,
        "Steps": [{"Kind": one.kind, "Text": one.text, "Refused": one.refused} for one in answer.steps],
    }


def _row(one: netdiag_pb2.ExaminedNode) -> tuple[str, ...]:
    name, report = one.hostname or one.id, one.report
    if one.error or one.state == "down":
        return (name, one.address, one.state.capitalize(), *["-"] * 6)
    good = sum(1 for way in report.ways if not way.node_port and way.overlay)
    rules = f"{len(report.differences)} differ" if report.differences else "equal"
    return (
        name,
        one.address,
        one.state.capitalize(),
        f"{report.snapshot}{'' if report.applied else ' (not applied)'}",
        rules if report.audited else "not read",
        str(report.underlay_mtu or "-"),
        str(report.overlay_mtu or "-"),
        f"{report.conntrack}/{report.conntrack_max}" if report.conntrack_max else "-",
        f"{good}/{len(report.ways)}",
    )


def _sentences(one: netdiag_pb2.NetworkFinding) -> list[str]:
    text = one.text if one.text.endswith(".") else f"{one.text}."
    return [f"  - {text}", *([f"    {one.advice[0].upper()}{one.advice[1:]}."] if one.advice else [])]


def _node(one: netdiag_pb2.ExaminedNode) -> Json:
    report = one.report
    return {
        "ID": one.id,
        "Hostname": one.hostname,
        "Address": one.address,
        "State": one.state,
        "Error": one.error,
        "Snapshot": report.snapshot,
        "Applied": report.applied,
        "Audited": report.audited,
        "Differences": list(report.differences),
        "Problems": list(report.problems),
        "Limits": list(report.limits),
        "Unchecked": list(report.unchecked),
        "Conntrack": {"Count": report.conntrack, "Max": report.conntrack_max},
        "MTU": {"Underlay": report.underlay_mtu, "Overlay": report.overlay_mtu},
        "Ways": [
            {
                "PeerID": way.node_id,
                "NodePort": way.node_port or "open",
                "Gossip": way.gossip or "unknown",
                "Underlay": way.underlay,
                "Overlay": way.overlay,
            }
            for way in report.ways
        ],
    }
