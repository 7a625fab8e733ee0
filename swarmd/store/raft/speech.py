"""What a member says: the frames of one turn, built from what its groups want to send.  Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.codec import to_wire
from swarmd.store.raft.engine import Engine
from swarmd.store.raft.envelope import members_to_wire
from swarmd.store.raft.held import Held

_BATCH_BYTES = 4 << 20


def outgoing(epoch: int, engine: Engine) -> Iterator[tuple[str, pb.PeerFrame]]:
    """(peer, frame) of everything ``engine`` wants to say, in order; takes it out of the engine."""
    waiting: dict[str, list[pb.RaftMessage]] = defaultdict(list)
    for peer, message in engine.take_messages():
        waiting[peer].append(to_wire(message))
    for peer, messages in waiting.items():
        for batch in _batches(epoch, messages):
            yield peer, pb.PeerFrame(raft=batch)
    term = engine.ballot.take_question()
    if term is not None:
        at = engine.position
        ask = pb.PreVoteRequest(epoch=epoch, term=term, last_index=at.last, last_term=at.last_term)
        for peer in engine.members:
            if peer != engine.self_id:
                yield peer, pb.PeerFrame(pre_vote_request=ask)


def _batches(epoch: int, messages: list[pb.RaftMessage]) -> Iterator[pb.RaftBatch]:
    """``messages`` in batches that stay well below the largest frame."""
    batch, size = pb.RaftBatch(epoch=epoch), 0
    for message in messages:
        batch.messages.append(message)
        size += message.ByteSize()
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = pb.RaftBatch(epoch=epoch), 0
    if batch.messages:
        yield batch


def own_status(
    held: Held, *, applied: int, address: str, short: bool, clock: float, heard: Mapping[str, str]
) -> pb.PeerFrame:
    """Which epoch this member holds and where it is; of one that left, who the managers were after it."""
    return pb.PeerFrame(
        status=pb.PeerStatus(
            newest_epoch=0 if held.wiped else held.newest,
            floor=held.floor.epoch,
            started=held.current is not None,
            applied_index=held.position,
            members=members_to_wire(held.members),
            applied_count=applied,
            address=address,
            base_epoch=0 if held.wiped else held.base_epoch,
            is_short_of_space=short,
            clock=clock,
            heard=members_to_wire(heard),
        )
    )
