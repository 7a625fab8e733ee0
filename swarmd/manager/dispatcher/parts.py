"""Cuts a snapshot of the network into messages that a channel carries."""

from __future__ import annotations

from swarmd.rpc.v1 import agent_pb2

PART = 4 << 20
"""Bytes of a part, unless one thing alone is larger."""
_LISTS = ("nodes", "ports", "networks", "services", "endpoints", "routes", "certificates")
_AROUND = 8
"""Bytes that a list needs for each thing in it."""


def parts(snapshot: agent_pb2.NetworkSnapshot, limit: int = PART) -> list[agent_pb2.NetworkSnapshot]:
    """The snapshot itself, or parts of it of about ``limit`` bytes at most."""
    if snapshot.ByteSize() <= limit:
        return [snapshot]
    last = agent_pb2.NetworkSnapshot(
        version=snapshot.version, since=snapshot.since, changed=snapshot.changed, kept=snapshot.kept
    )
    made, size = [last], last.ByteSize()
    for name in _LISTS:
        for one in getattr(snapshot, name):
            more = one.ByteSize() + _AROUND
            if size + more > limit:
                last.more = True
                last, size = agent_pb2.NetworkSnapshot(version=snapshot.version, part=len(made)), 0
                made.append(last)
            getattr(last, name).append(one)
            size += more
    return made
