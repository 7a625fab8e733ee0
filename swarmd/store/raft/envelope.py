"""What stands in a log entry, and what applying it means before the state machine sees it.  Pure.

Each entry says who proposed it (session) and the how-manieth of theirs it is (sequence).  The ledger, part of
the replicated state, remembers the newest applied sequence of each session: an entry proposed again is
applied once.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from google.protobuf.message import DecodeError

from swarmd.model.errors import SwarmError
from swarmd.rpc.v1 import peer_pb2 as pb

_SESSIONS_KEPT = 64


class Seal(msgspec.Struct, frozen=True):
    """The epoch ends here; ``members`` are those of the next."""

    members: dict[str, str]


class Barrier(msgspec.Struct, frozen=True):
    """Nothing to apply.  Managers of version 0.1 put it into their logs, which may have to be read still."""


class Command(msgspec.Struct, frozen=True):
    """Bytes for the state machine."""

    data: bytes


Body = Seal | Barrier | Command


class Envelope(msgspec.Struct, frozen=True):
    """One proposal under its name."""

    session: str
    sequence: int
    body: Body


def encode_envelope(envelope: Envelope) -> bytes:
    """The bytes of a log entry."""
    out = pb.RaftEnvelope(session=envelope.session, sequence=envelope.sequence)
    match envelope.body:
        case Command(data):
            out.command = data
        case Barrier():
            out.barrier.SetInParent()
        case Seal(members):
            out.seal.members.extend(members_to_wire(members))
    return out.SerializeToString()


def decode_envelope(data: bytes) -> Envelope:
    """The proposal in a log entry.

    Raises SwarmError for one this version does not know: skipping it would make the replicas differ.
    """
    try:
        wire = pb.RaftEnvelope.FromString(data)
    except DecodeError as error:
        raise SwarmError(f"A log entry cannot be understood: {error}.") from error
    return Envelope(wire.session, wire.sequence, _body(wire))


def _body(wire: pb.RaftEnvelope) -> Body:
    match wire.WhichOneof("body"):
        case "command":
            return Command(wire.command)
        case "barrier":
            return Barrier()
        case "seal":
            return Seal(members_from_wire(wire.seal.members))
        case _:
            raise SwarmError(
                "The log holds an entry this version of swarmd does not know. Upgrade this manager to the "
                "version the others run."
            )


def members_to_wire(members: Mapping[str, str]) -> list[pb.PeerMember]:
    """Members in a fixed order, so that the same members are the same bytes."""
    return [pb.PeerMember(node_id=node_id, address=members[node_id]) for node_id in sorted(members)]


def members_from_wire(members: object) -> dict[str, str]:
    """Node id to address, from a repeated PeerMember."""
    return {member.node_id: member.address for member in members}  # type: ignore[attr-defined]


class Ledger:
    """Counts applied commands and knows which proposals were applied; the same on every replica."""

    def __init__(self, applied: int = 0, sessions: list[tuple[str, int]] | None = None) -> None:
        self.applied = applied
        self._newest = dict(sessions or [])

    def admit(self, session: str, sequence: int) -> int | None:
        """The index to apply a command under, or None when it was applied before."""
        if sequence <= self._newest.get(session, 0):
            return None
        # Re-inserted last: the longest silent session is the first to be forgotten, everywhere alike.
        self._newest.pop(session, None)
        self._newest[session] = sequence
        if len(self._newest) > _SESSIONS_KEPT:
            del self._newest[next(iter(self._newest))]
        self.applied += 1
        return self.applied

    def sessions(self) -> list[tuple[str, int]]:
        """For the snapshot, longest silent first."""
        return list(self._newest.items())
