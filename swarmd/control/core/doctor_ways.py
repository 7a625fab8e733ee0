"""Decide what is wrong with the ways between nodes, from what each says of its own.

each way ──► at most one cause ──► both directions alike: one ──► the same from everybody: one
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from swarmd.rpc.v1 import netdiag_pb2 as pb

PROBLEM, NOTICE = "problem", "notice"
OPEN_NODE_PORT = "open 7946/tcp between all nodes, in both directions"
OPEN_GOSSIP = "open 7946/udp between all nodes, in both directions"
OPEN_OVERLAY = "open 4789/udp between all nodes, in both directions, also in the network between them"
MTU_OPTION = "--opt com.docker.network.driver.mtu"
_ENCAPSULATION = 50
_MANY = 2
"""So many that tried, and all failed alike, are told as one."""


class Wrong(msgspec.Struct, frozen=True):
    """What is wrong with one way.  ``text`` has {node} and {peer} for its ends."""

    severity: str
    kind: str
    text: str
    advice: str


Ways = dict[tuple[str, str], Wrong]


def of_ways(nodes: Sequence[pb.ExaminedNode]) -> list[pb.NetworkFinding]:
    """Findings of all ways that were tried."""
    names = {one.id: one.hostname or one.id for one in nodes}
    wrong: dict[str, Ways] = defaultdict(dict)
    tried: dict[str, int] = defaultdict(int)
    for one in nodes:
        for way in one.report.ways:
            tried[way.node_id] += 1
            for cause in causes(way, one.report):
                wrong[cause.kind][one.id, way.node_id] = cause
    return [finding for ways in wrong.values() for finding in _told_once(ways, tried, names)]


def causes(way: pb.WayReport, report: pb.ExamineNodeResponse) -> Iterator[Wrong]:
    """What is wrong with a way of the node that ``report`` is of."""
    if way.node_port:
        text = f"a connection from {{node}} to {{peer}} on 7946/tcp fails: {way.node_port}"
        yield Wrong(PROBLEM, "node-port", text, OPEN_NODE_PORT)
    if way.gossip in ("dead", "suspect"):
        text = f"gossip from {{node}} gets no answer from {{peer}} (7946/udp), counted as {way.gossip}"
        yield Wrong(PROBLEM, "gossip", text, OPEN_GOSSIP)
    elif not way.gossip:
        text = "gossip has never told {node} of {peer} (7946/udp)"
        yield Wrong(PROBLEM, "gossip", text, OPEN_GOSSIP)
    if way.overlay == 0:
        if way.node_port and not way.underlay:
            return  # nothing reaches that node at all, which has been said
        text = "nothing comes back to {node} from {peer} through the overlay (4789/udp)"
        yield Wrong(PROBLEM, "data-path", text, OPEN_OVERLAY)
    yield from _sizes(way, report)


def _sizes(way: pb.WayReport, report: pb.ExamineNodeResponse) -> Iterator[Wrong]:
    if 0 < way.overlay < report.overlay_mtu:
        known = 0 < way.underlay < report.underlay_mtu
        fits = min(way.overlay, way.underlay - _ENCAPSULATION) if known else way.overlay
        cause = f"; between the nodes themselves {way.underlay} do" if known else ""
        text = (
            f"containers send packets of {report.overlay_mtu} bytes, "
            f"and only {way.overlay} pass from {{node}} to {{peer}}{cause}"
        )
        advice = (
            f"give the interfaces of the nodes an MTU of {fits + _ENCAPSULATION}, "
            f"or make networks with {MTU_OPTION}={fits}"
        )
        yield Wrong(PROBLEM, "mtu", text, advice)
    elif 0 < way.underlay < report.underlay_mtu:
        text = (
            f"packets of {report.underlay_mtu} bytes, the interface's MTU, do not pass in one piece "
            f"from {{node}} to {{peer}}; {way.underlay} do"
        )
        advice = f"give the interfaces of the nodes an MTU of {way.underlay}"
        yield Wrong(PROBLEM, "underlay-mtu", text, advice)
    elif way.underlay == 0 and not way.node_port:
        text = (
            "ICMP echo requests from {node} get no answer from {peer}, so the MTU between them is not known"
        )
        yield Wrong(NOTICE, "icmp", text, "let ICMP through between nodes")


def _told_once(ways: Ways, tried: dict[str, int], names: dict[str, str]) -> Iterator[pb.NetworkFinding]:
    by_peer: dict[str, list[str]] = defaultdict(list)
    for node_id, peer_id in ways:
        by_peer[peer_id].append(node_id)
    lost = {peer for peer, by in by_peer.items() if len(by) == tried[peer] >= _MANY}
    if len(lost) == len(tried):  # everybody with everybody: no single node is to blame
        yield _finding(next(iter(ways.items())), names, who=("each node", "the others"))
        return
    for peer in sorted(lost, key=names.__getitem__):
        first = (by_peer[peer][0], peer)
        yield _finding((first, ways[first]), names, who=("the other nodes", names[peer]))
    yield from _pairs(ways, lost, names)


def _pairs(ways: Ways, lost: Iterable[str], names: dict[str, str]) -> Iterator[pb.NetworkFinding]:
    told: set[tuple[str, str]] = set()
    for (node_id, peer_id), wrong in ways.items():
        if {node_id, peer_id} & set(lost) or (peer_id, node_id) in told:
            continue
        told.add((node_id, peer_id))
        both = (peer_id, node_id) in ways
        yield _finding(((node_id, peer_id), wrong), names, more="; the same the other way" if both else "")


def _finding(
    one: tuple[tuple[str, str], Wrong],
    names: dict[str, str],
    *,
    who: tuple[str, str] | None = None,
    more: str = "",
) -> pb.NetworkFinding:
    (node_id, peer_id), wrong = one
    node, peer = who or (names[node_id], names.get(peer_id, peer_id))
    return pb.NetworkFinding(
        severity=wrong.severity,
        kind=wrong.kind,
        node_id="" if who else node_id,
        peer_id="" if who and who[1] != names.get(peer_id, peer_id) else peer_id,
        text=wrong.text.replace("{node}", node).replace("{peer}", peer) + more,
        advice=wrong.advice,
    )
