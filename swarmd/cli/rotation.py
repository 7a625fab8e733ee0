"""A rotation of the root CA as lines.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarmd.cli.progress import Line
from swarmd.cli.units import rfc3339

if TYPE_CHECKING:
    from swarmd.rpc.v1 import control_pb2


def lines(answer: control_pb2.GetAuthorityResponse, digest: str) -> list[Line]:
    """The progress towards the root of that digest."""
    found = [Line("desired root digest", digest)]
    if answer.next.digest == digest:
        trusting, certified, nodes = answer.trusting, answer.certified, answer.nodes
    elif answer.root.digest == digest:
        return [*found, Line("rotated CA certificates", "every node has gone over")]
    else:
        return found
    found.append(Line("trusted CA certificates", f"{trusting}/{nodes} nodes"))
    found.append(Line("rotated CA certificates", f"{certified}/{nodes} nodes"))
    waits = [f"{one.hostname or one.id} ({one.reason})" for one in answer.awaited if one.state == "down"]
    if waits:
        found.append(Line("waiting for", "; ".join(waits)))
    return found


def done(answer: control_pb2.GetAuthorityResponse, digest: str) -> bool | None:
    """True when that root is the swarm's, False when the swarm goes elsewhere, None when it is under way."""
    if answer.phase and answer.next.digest == digest:
        return None
    return not answer.phase and answer.root.digest == digest


def describe(answer: control_pb2.GetAuthorityResponse) -> list[str]:
    """What ``swarm ca --status`` prints."""
    found = [*_root("Root CA", answer.root)]
    if not answer.phase:
        return [*found, "Rotation: none"]
    found += _root("New root CA", answer.next)
    what = "nodes learn to trust it" if answer.phase == "trust" else "nodes get certificates of it"
    found.append(f"Rotation: {what}")
    found.append(f"Trusted CA certificates: {answer.trusting}/{answer.nodes} nodes")
    found.append(f"Rotated CA certificates: {answer.certified}/{answer.nodes} nodes")
    if answer.awaited:
        found.append("Waiting for:")
        found += [f" {one.id} {one.hostname} ({one.state}): {one.reason}" for one in answer.awaited]
    return found


def _root(title: str, root: control_pb2.Root) -> list[str]:
    return [
        f"{title}:",
        f" Subject: {root.subject}",
        f" Digest: {root.digest}",
        f" Expires: {rfc3339(root.valid_until)}",
    ]
