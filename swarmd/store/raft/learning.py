"""Learners follow the open epoch's log, so that an epoch that names them can begin at once.

    learner ── ask: "mine ends with entry 7 of term 2" ──►  a member
            ◄── entries 8 to 9 ──────────────────────────
    (9 is durable, then applied)
            ── ask: "mine ends with entry 9 of term 2" ──►
            ◄── nothing behind that yet ─────────────────
            ◄── entry 10 ────────────────────────────────  as soon as it is agreed upon

Only what is agreed upon is given, so it does not matter who gives it, who leads, or whether that changes.
One piece is under way at a time: a learner asks for more when what came is on its disk.  No answer of a
learner counts for anything in the group; what it says of its progress only decides when it may be named.
"""

from __future__ import annotations

import logging

from swarmd.kit.clock import Clock
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.held import Held
from swarmd.store.raft.peers import Peers
from swarmd.store.raft.reads import Send
from swarmd.store.raft.records import Entry
from swarmd.store.raft.timing import Timing

_log = logging.getLogger(__name__)

_PIECE_BYTES = 256 << 10
_AVOID_SECONDS = 5.0


class Learning:
    """The learner's side: asks whoever is furthest on.  ``gone``: that one has the log no more."""

    def __init__(self, held: Held, peers: Peers, send: Send, clock: Clock, timing: Timing) -> None:
        self._held = held
        self._peers = peers
        self._send = send
        self._clock = clock
        self._timing = timing
        self._asked = ""
        self._at = (0, 0)
        self._answered = True
        self._again = 0.0
        self._avoid, self._avoid_until = "", 0.0
        self.gone = False

    def hear(self, peer: str, piece: pb.LogPiece) -> None:
        """``peer`` answers."""
        copy = self._held.copy
        if copy is None or piece.epoch != copy.epoch or peer != self._asked:
            return
        self._answered = True
        self.gone = piece.gone
        copy.take(Entry(entry.index, entry.term, entry.command) for entry in piece.entries)

    def turn(self) -> None:
        """Ask for more when what came is durable, or when nothing came for a while."""
        copy = self._held.copy
        if copy is None:
            return
        now = self._clock.monotonic()
        at = (copy.epoch, copy.last)
        if at == self._at and now < self._again:
            return
        if at[0] != self._at[0]:
            self._answered, self.gone = True, False
        if self.gone or not self._answered:
            self._avoid, self._avoid_until = self._asked, now + _AVOID_SECONDS
        avoid = self._avoid if now < self._avoid_until else ""
        source = self._peers.teacher(copy.epoch, now=now, avoid=avoid, prefer=self._asked)
        if source is None:
            return
        self._again = now + 2 * self._timing.status
        self._asked, self._at, self._answered = source, at, False
        ask = pb.LogAsk(epoch=copy.epoch, last_index=copy.last, last_term=copy.last_term)
        self._send(source, pb.PeerFrame(log_ask=ask))


class Teaching:
    """The member's side: answers each learner, and remembers who waits for the next entry."""

    def __init__(self, held: Held, send: Send) -> None:
        self._held = held
        self._send = send
        self._waiting: dict[str, pb.LogAsk] = {}

    def hear(self, peer: str, ask: pb.LogAsk) -> None:
        """``peer`` asks; what it asked before is forgotten."""
        self._waiting.pop(peer, None)
        piece = self._piece(ask)
        self._send(peer, pb.PeerFrame(log_piece=piece))
        if not piece.entries and not piece.gone:
            self._waiting[peer] = ask

    def turn(self) -> None:
        """Give what was agreed upon meanwhile to those who wait for it."""
        for peer, ask in list(self._waiting.items()):
            piece = self._piece(ask)
            if piece.entries or piece.gone:
                del self._waiting[peer]
                self._send(peer, pb.PeerFrame(log_piece=piece))

    def _piece(self, ask: pb.LogAsk) -> pb.LogPiece:
        live = self._held.live.get(ask.epoch)
        if live is None or ask.last_index < 1:
            return pb.LogPiece(epoch=ask.epoch, gone=True)
        # Agreed upon, and durable here as well.
        agreed, journal = live.engine.applied, live.engine.journal
        if ask.last_index <= agreed and journal.term_at(ask.last_index) != ask.last_term:
            _log.error("a learner's copy of epoch %d differs at entry %d", ask.epoch, ask.last_index)
            return pb.LogPiece(epoch=ask.epoch, gone=True)
        entries = journal.between(ask.last_index, agreed, _PIECE_BYTES)
        wire = [pb.RaftEntry(index=entry.index, term=entry.term, command=entry.command) for entry in entries]
        return pb.LogPiece(epoch=ask.epoch, entries=wire)
