"""Faults put into the product on purpose: the checks must find each of them.

``where`` names profile, members and the first seed with which chance finds it; None says that chance does so
too seldom, and ``test_directed`` arranges the disaster by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft import changes, engine, keeper, member, records, speech
from swarmd.store.raft.codec import CoreMessage
from swarmd.store.raft.engine import Engine
from swarmd.store.raft.envelope import Envelope, Ledger, Seal, decode_envelope
from swarmd.store.raft.held import Held
from swarmd.store.raft.journal import Journal
from swarmd.store.raft.learning import Teaching
from swarmd.store.raft.logcopy import LogCopy
from swarmd.store.raft.member import Member
from swarmd.store.raft.node import RaftNode
from swarmd.store.raft.probe import Probe
from swarmd.store.raft.proposals import Pending, Proposals
from swarmd.store.raft.reads import Reads
from swarmd.store.raft.records import Entry, Item, Marker, encode_record, file_header
from swarmd.store.raft.sanitize import Append, sanitize_append
from swarmd.store.raft.wal import LogState, Wal

Patch = tuple[Any, str, Any]
Where = tuple[str, int, int]


class Mutant:
    """What to replace in the product."""

    def __init__(self, patches: Sequence[Patch], where: Where | None) -> None:
        self._patches = patches
        self.where = where

    @contextmanager
    def active(self) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name, replacement in self._patches:
                stack.enter_context(mock.patch.object(owner, name, replacement))
            yield


def _commit_without_sync(self: Wal, items: Sequence[Item]) -> None:
    record, self._crc = encode_record(items, self._sequence + 1, self._crc)
    self._disk.write(self._fd, record)
    self._sequence += 1
    self.size += len(record)


async def _turn_speaks_first(self: Member) -> None:
    self._turned = self.clock.monotonic()
    self._hearing.turn()
    self._feed()
    for live in self.held.live.values():
        live.engine.tick()
    self._speak()
    end = self._apply()
    self._hearing.teaching.turn()
    await self.held.persist()
    if end is not None:
        await self._roll(*end)
    elif self._fetched is not None:
        await self._install(self._fetched)
    self._watch_leadership()
    self.learning.turn()
    self.reads.turn()


_set_term = Journal.setCurrentTerm


def _forget_vote(self: Journal, term: int, vote: str | None) -> None:
    _set_term(self, term, None)


def _forget_term(self: Journal, term: int, vote: str | None) -> None:
    self._term, self._vote = term, vote


def _apply_behind_seal(self: Member) -> tuple[int, Envelope, Seal] | None:
    end: tuple[int, Envelope, Seal] | None = None
    for epoch, live in self.held.live.items():
        entries = live.engine.take_committed()
        if epoch != self.held.newest or live.sealed:
            continue
        for index, data in entries:
            envelope = decode_envelope(data)
            if isinstance(envelope.body, Seal):
                live.sealed = True
                end = end or (index, envelope, envelope.body)
            else:
                self.proposals.applied(envelope, self.replica.apply(envelope))
    return end


def _admit_all(self: Ledger, session: str, sequence: int) -> int | None:
    self.applied += 1
    return self.applied


def _append_as_it_comes(message: CoreMessage, *, last: int, committed: int, term_at: Any) -> Append:
    return Append(message, message["prevLogIdx"] + len(message["entries"]))


_sanitize = sanitize_append


def _commit_unclamped(message: CoreMessage, **known: Any) -> Append:
    clean = _sanitize(message, **known)
    return Append(clean.message | {"commit_index": message["commit_index"]}, clean.verified)


_deliver = Engine.deliver


def _vote_for_anybody(self: Engine, sender: str, message: CoreMessage) -> None:
    if message["type"] == "request_vote":
        message = message | {"last_log_term": 1 << 30}
    _deliver(self, sender, message)


_tick = Engine.tick


def _commit_old_terms(self: Engine) -> None:
    if self.leading:
        matched = sorted(
            [self.position.last, *(self._get("raftMatchIndex")[n] for n in self._nodes.values())]
        )
        self._put("raftCommitIndex", max(self.position.committed, matched[(len(matched) - 1) // 2]))
    _tick(self)


def _count_stale_answers(self: Engine, sender: str, message: CoreMessage) -> None:
    if message["type"] == "next_node_idx":
        message = message | {"term": self.term}
    _deliver(self, sender, message)


async def _read_at_once(self: RaftNode, *, timeout: float = 10.0) -> int:
    """Whoever is asked answers from what it has."""
    return self._replica.applied


def _join_under_way(self: Reads) -> Any:
    """A read takes part in a question that is out already."""
    return self._round.batches[-1] if self._round is not None else _join(self)


_join = Reads._join


async def _apply_later(self: Reads, index: int) -> None:
    """What the leader said is not waited for."""


def _answer_of_any_question(self: Reads, peer: str, answer: pb.ReadAnswer) -> None:
    if self._round is not None and self._round.probe is None:
        self._finish(self._round, answer.applied_count)


def _lead_sealed(self: Reads) -> Any:
    live = self._held.current
    return live.engine if live is not None and live.engine.term_applied() else None


def _ack_old_epoch(self: Reads, peer: str, probe: pb.ReadProbe) -> None:
    live = self._held.live.get(probe.epoch)
    if live is not None and live.engine.term == probe.term:
        ack = pb.ReadAck(epoch=probe.epoch, term=probe.term, number=probe.number)
        self._send(peer, pb.PeerFrame(read_ack=ack))


def _abandon_for_good(self: Proposals, pending: Pending) -> bool:
    if pending in self._queue:
        self._queue.remove(pending)
    return False


async def _roll_without_marker(self: Held, marker: Marker) -> None:
    await self._turn_over(marker.epoch, marker.members, None)


def _begin_without_sync(self: Wal, epoch: int, marker: Marker | None) -> LogState:
    self._disk.truncate(self._fd, 0)
    data = file_header(epoch)
    if marker is not None:
        record, self._crc = encode_record([marker], 1, 0)
        self._sequence, self.size = 1, self.size + len(record)
        data += record
    self._disk.write(self._fd, data)
    return LogState([], 0, None, marker)


_status = speech.own_status


def _base_too_early(held: Held, **more: Any) -> pb.PeerFrame:
    frame = _status(held, **more)
    frame.status.base_epoch = frame.status.newest_epoch
    return frame


async def _roll_cuts_log(self: Held, marker: Marker) -> None:
    await self._turn_over(marker.epoch, marker.members, marker)
    await self.run(lambda: self.store.discard(logs_before=marker.epoch))


def _install_whatever_is_newer(epoch: int, *, member: bool, newest: int, floor: int) -> bool:
    return epoch > newest


def _half_log(self: Engine) -> list[Item]:
    items, self.journal.items = self.journal.items, []
    return [item for item in items if not isinstance(item, Entry) or item.index % 7]


def _copy_unwritten(self: LogCopy) -> list[Item]:
    """A learner takes what arrived for durable."""
    waiting, self._waiting = self._waiting, []
    self.synced(waiting)
    return []


_persist = Held.persist


async def _persist_copy_later(self: Held) -> None:
    """A learner goes on before its disk has what it goes on from."""
    copy = self.copy
    items = copy.take_items() if copy is not None else []
    if copy is not None and items:
        copy.synced(items)
        late = self.run(lambda: copy.wal.commit(items))
        self._late = asyncio.ensure_future(late)  # type: ignore[attr-defined]
    await _persist(self)


def _whatever_there_is(self: Teaching, ask: pb.LogAsk) -> pb.LogPiece:
    """A learner is given what is not agreed upon."""
    live = self._held.live.get(ask.epoch)
    if live is None:
        return pb.LogPiece(epoch=ask.epoch, gone=True)
    entries = live.engine.journal.between(ask.last_index, live.engine.position.last, 1 << 20)
    wire = [pb.RaftEntry(index=entry.index, term=entry.term, command=entry.command) for entry in entries]
    return pb.LogPiece(epoch=ask.epoch, entries=wire)


def _yes(*_: Any, **__: Any) -> bool:
    return True


def _no(*_: Any, **__: Any) -> bool:
    return False


def _nothing(*_: Any, **__: Any) -> None:
    return None


MUTANTS = {
    "no-fsync": Mutant([(Wal, "commit", _commit_without_sync)], ("forget", 3, 1)),
    "speak-before-fsync": Mutant([(Member, "turn", _turn_speaks_first)], ("forget", 3, 53)),
    "forgotten-vote": Mutant([(Journal, "setCurrentTerm", _forget_vote)], None),
    "forgotten-term": Mutant([(Journal, "setCurrentTerm", _forget_term)], ("forget", 3, 13)),
    "behind-seal-applied": Mutant([(Member, "_apply", _apply_behind_seal)], None),
    "no-dedupe": Mutant([(Ledger, "admit", _admit_all)], None),
    "append-unchecked": Mutant([(engine, "sanitize_append", _append_as_it_comes)], ("links", 3, 1)),
    "commit-unclamped": Mutant([(engine, "sanitize_append", _commit_unclamped)], None),
    "vote-for-anybody": Mutant(
        [(Engine, "deliver", _vote_for_anybody), (Engine, "would_vote", _yes)], ("links", 3, 3)
    ),
    "commit-old-terms": Mutant([(Engine, "tick", _commit_old_terms)], None),
    "stale-answers-counted": Mutant([(Engine, "deliver", _count_stale_answers)], None),
    "read-of-what-there-is": Mutant([(RaftNode, "read_index", _read_at_once)], ("links", 3, 1)),
    "read-without-quorum": Mutant([(Probe, "confirmed", True)], ("links", 3, 1)),
    "read-acked-past-term": Mutant([(Reads, "_follows", _yes)], None),
    "read-joins-question": Mutant([(Reads, "_join", _join_under_way)], ("far", 3, 1)),
    "read-before-applied": Mutant([(Reads, "_until_applied", _apply_later)], ("links", 3, 1)),
    "read-any-answer": Mutant([(Reads, "_hear_answer", _answer_of_any_question)], ("far", 3, 10)),
    "read-in-sealed-epoch": Mutant(
        [(Reads, "_leads", _lead_sealed), (Reads, "_hear_probe", _ack_old_epoch)], None
    ),
    "failure-called-final": Mutant([(Proposals, "abandon", _abandon_for_good)], ("links", 3, 2)),
    "marker-not-written": Mutant([(Held, "roll", _roll_without_marker)], ("forget", 3, 1)),
    "marker-not-synced": Mutant([(Wal, "_begin", _begin_without_sync)], ("forget", 3, 1)),
    "log-cut-before-base": Mutant([(Held, "roll", _roll_cuts_log)], ("forget", 3, 1)),
    "base-claimed-too-early": Mutant([(member, "own_status", _base_too_early)], ("forget", 3, 1)),
    "old-epoch-dropped": Mutant([(keeper, "is_finished", _yes)], None),
    "seal-for-nobody": Mutant([(changes, "may_seal", _yes)], None),
    "damage-taken-for-torn": Mutant([(records, "_check_torn", _nothing)], None),
    "lost-disk-forgiven": Mutant([(keeper, "lost_its_disk", _no)], None),
    "entries-skipped-in-log": Mutant([(Engine, "take_items", _half_log)], ("forget", 3, 1)),
    "copy-not-written": Mutant([(LogCopy, "take_items", _copy_unwritten)], ("churn", 3, 1)),
    "copy-applied-too-early": Mutant([(Held, "persist", _persist_copy_later)], ("churn", 3, 1)),
    "taught-before-agreed": Mutant([(Teaching, "_piece", _whatever_there_is)], ("churn", 3, 1)),
    "no-floor": Mutant([(keeper, "may_install", _install_whatever_is_newer)], None),
}
