"""Reads that are never older than what was acknowledged before them, without an entry in the log.

    leader    ── probe(epoch, term, number) ──►  members        follower ── ask ──►  leader
              ◄── ack, from a majority ───────                            ◄── applied count ──

The leader of epoch n, term T that has applied an entry of T notes its commit position and asks the members
of n whether they are still at T.  A majority of answers sent after the question, itself counted, proves
that what it noted holds all that was acknowledged anywhere before the question.  Be w such a write:

- In an epoch before n: the base of n holds it.
- In n, in a term before T: the leader had it in its log, and has applied a later entry, its first one of
  T.
- In n, in T: the leader committed it itself, applied it, and only then said so.
- In n, in a term after T: a majority of n voted in that term before w, and was past T for ever, also
  across a crash, since terms are durable before votes are spoken.  One of them would be among those who
  answered at T.
- In an epoch after n: a seal of n was committed before w, and by this leader (a later one there was not,
  as above; an earlier one's it would have applied).  Nobody begins n + 1 before it has counted the seal's
  majority, so what it noted is the seal or behind it, and the answer waits until that is applied.  That
  rolls this member on, and the reads are asked for again in its next epoch.

The term in memory is never behind one that was spoken for, so answers need no disk, and are given as soon
as the question is heard; a write under way holds up no read.  A leader whose disk stands still answers
while the noted position is applied: it is not wrong, only late.  A group of one is its own majority.

All reads that wait share one question; one that comes while a question is out waits for the next, because
the answers may have been sent before it came.  A follower's question names its session, so that an answer
to the process before it is not taken for its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from swarmd.kit.clock import Clock
from swarmd.model.errors import SwarmError, Unavailable
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.age import Age
from swarmd.store.raft.engine import Engine
from swarmd.store.raft.held import Held
from swarmd.store.raft.port import no_leader
from swarmd.store.raft.probe import Probe
from swarmd.store.raft.replica import Replica
from swarmd.store.raft.timing import Timing

Send = Callable[[str, pb.PeerFrame], None]


class _Batch:
    """Reads that came between two questions: those made here, and the newest of each other manager."""

    def __init__(self) -> None:
        self.index: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        # The last of its readers may have given up.
        self.index.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.readers = 0
        self.asked: dict[str, pb.ReadAsk] = {}


class _Round:
    """One question that is out: a probe of the leader, or what a follower asks ``target``."""

    def __init__(self, batches: list[_Batch], probe: Probe | None, target: str, number: int) -> None:
        self.batches = batches
        self.probe = probe
        self.target = target
        self.number = number
        self.sent = 0.0


class Reads:
    """The reads of one member.  ``leader`` names who leads, as far as this member knows."""

    def __init__(
        self,
        held: Held,
        replica: Replica,
        send: Send,
        clock: Clock,
        timing: Timing,
        *,
        session: str,
        leader: Callable[[], str | None],
    ) -> None:
        self._held = held
        self._replica = replica
        self._send = send
        self._clock = clock
        self._timing = timing
        self._session = session
        self._leader = leader
        self._number = 0
        self._waiting: list[_Batch] = []
        self._round: _Round | None = None
        self._behind: list[tuple[int, asyncio.Future[None]]] = []
        self._age = Age(timing)
        self._ended: SwarmError | None = None

    # -- what callers ask ------------------------------------------------------------------------

    async def index(self, timeout: float) -> int:
        """See :meth:`swarmd.store.raft.port.Proposer.read_index`."""
        if self._ended is not None:
            raise self._ended
        batch = self._join()
        batch.readers += 1
        self._advance()
        try:
            async with asyncio.timeout(timeout):
                index = await asyncio.shield(batch.index)
                await self._until_applied(index)
        except TimeoutError:
            raise self._too_late(batch, timeout) from None
        finally:
            batch.readers -= 1
        return index

    def age(self) -> float | None:
        """See :class:`swarmd.store.raft.port.RaftStatus`."""
        return self._age.at(self._clock.monotonic())

    def end(self, error: SwarmError) -> None:
        """This member takes no part any more: whoever waits is told ``error``."""
        self._ended = error
        batches = [*(self._round.batches if self._round else ()), *self._waiting]
        self._round, self._waiting = None, []
        for batch in batches:
            if not batch.index.done():
                batch.index.set_exception(error)
        for _, applied in self._behind:
            if not applied.done():
                applied.set_exception(error)

    def _too_late(self, batch: _Batch, timeout: float) -> Unavailable:
        if not batch.index.done():
            return no_leader()
        return Unavailable(
            f"This manager is behind the leader and did not catch up within {timeout:g} seconds. "
            "Ask another manager, or try again in a moment."
        )

    async def _until_applied(self, index: int) -> None:
        if self._replica.applied >= index:
            return
        waiting = index, asyncio.get_running_loop().create_future()
        self._behind.append(waiting)
        try:
            await waiting[1]
        finally:
            if waiting in self._behind:
                self._behind.remove(waiting)

    def _join(self) -> _Batch:
        """Those whose question is not out yet."""
        if not self._waiting:
            self._waiting.append(_Batch())
        return self._waiting[-1]

    # -- what the pump and the others bring ------------------------------------------------------

    def turn(self) -> None:
        """Something may have been applied, and time has passed."""
        self._age.note(self._held.current, self._clock.monotonic())
        for index, applied in self._behind:
            if self._replica.applied >= index and not applied.done():
                applied.set_result(None)
        self._advance()

    def hear(self, peer: str, frame: pb.PeerFrame) -> bool:
        """Take what ``peer`` says about reads; False for a frame about something else."""
        match frame.WhichOneof("body"):
            case "read_probe":
                self._hear_probe(peer, frame.read_probe)
            case "read_ack":
                if self._round is not None and self._round.probe is not None:
                    self._round.probe.count(peer, frame.read_ack)
                    self._advance()
            case "read_ask":
                if self._leads() is not None:
                    self._join().asked[peer] = frame.read_ask
                    self._advance()
            case "read_answer":
                self._hear_answer(peer, frame.read_answer)
            case _:
                return False
        return True

    def _hear_probe(self, peer: str, probe: pb.ReadProbe) -> None:
        live = self._held.current
        if live is None or peer not in live.engine.members:
            return
        if self._follows(live.engine, probe):
            ack = pb.ReadAck(epoch=probe.epoch, term=probe.term, number=probe.number)
            self._send(peer, pb.PeerFrame(read_ack=ack))

    def _follows(self, engine: Engine, probe: pb.ReadProbe) -> bool:
        """This member is not past that epoch and term."""
        return probe.epoch == self._held.newest and probe.term == engine.term

    def _hear_answer(self, peer: str, answer: pb.ReadAnswer) -> None:
        asked = self._round
        if asked is None or asked.probe is not None or asked.target != peer:
            return
        if (answer.session, answer.number) == (self._session, asked.number):
            self._finish(asked, answer.applied_count)
            self._advance()

    # -- one question at a time ------------------------------------------------------------------

    def _advance(self) -> None:
        """Go on with the question that is out; when there is none, begin the next."""
        while True:
            if self._round is None and not self._begin():
                return
            assert self._round is not None
            if not self._go_on(self._round):
                return

    def _begin(self) -> bool:
        self._waiting = [batch for batch in self._waiting if batch.readers or batch.asked]
        if not self._waiting:
            return False
        probe, target = self._probe(), ""
        if probe is None:
            leader = self._leader()
            live = self._held.current
            if leader is None or (live is not None and leader == live.engine.self_id):
                return False  # an election, or a roll: it will not last
            target = leader
        self._number += 1
        self._round = _Round(self._waiting, probe, target, self._number)
        self._waiting = []
        self._say(self._round)
        return True

    def _leads(self) -> Engine | None:
        """The engine of the group this member may answer for."""
        live = self._held.current
        leads = live is not None and live.engine.term_applied() and not live.sealed
        return live.engine if live is not None and leads else None

    def _probe(self) -> Probe | None:
        engine = self._leads()
        if engine is None:
            return None
        question = pb.ReadProbe(epoch=self._held.newest, term=engine.term, number=self._number + 1)
        return Probe(engine.self_id, engine.members, question, engine.position.committed)

    def _say(self, out: _Round) -> None:
        out.sent = self._clock.monotonic()
        if out.probe is None:
            ask = pb.ReadAsk(session=self._session, number=out.number)
            self._send(out.target, pb.PeerFrame(read_ask=ask))
            return
        for peer in out.probe.silent:
            self._send(peer, pb.PeerFrame(read_probe=out.probe.question))

    def _go_on(self, out: _Round) -> bool:
        """False while the answers are missing; True when it is over, one way or the other."""
        if not self._holds(out):
            # Its readers ask again, the other managers do so by themselves.
            self._round = None
            for batch in out.batches:
                batch.asked.clear()
            self._waiting = out.batches + self._waiting
            return True
        engine = self._leads()
        if out.probe is not None and engine is not None and out.probe.confirmed:
            if engine.applied >= out.probe.committed:
                self._finish(out, self._replica.applied)
                return True
        elif self._clock.monotonic() - out.sent >= self._timing.heartbeat:
            self._say(out)
        return False

    def _holds(self, out: _Round) -> bool:
        """Whether the question still makes sense: same leader, same epoch and term."""
        engine = self._leads()
        if out.probe is None:
            return engine is None and self._leader() == out.target
        asked = out.probe.question
        return engine is not None and (asked.epoch, asked.term) == (self._held.newest, engine.term)

    def _finish(self, out: _Round, applied: int) -> None:
        self._round = None
        for batch in out.batches:
            if not batch.index.done():
                batch.index.set_result(applied)
            for peer, ask in batch.asked.items():
                answer = pb.ReadAnswer(session=ask.session, number=ask.number, applied_count=applied)
                self._send(peer, pb.PeerFrame(read_answer=answer))
