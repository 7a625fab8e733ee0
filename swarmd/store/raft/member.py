"""One manager's part in replication: a pump that turns frames, time and proposals into frames and state.

Each turn: take what arrived, let the groups think, make it durable, and only then speak, apply and
acknowledge.  A seal that is applied rolls into the next epoch between two turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from swarmd.kit.clock import Clock
from swarmd.model.errors import Unavailable
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.envelope import Envelope, Seal, decode_envelope, encode_envelope
from swarmd.store.raft.hearing import Hearing
from swarmd.store.raft.held import Held
from swarmd.store.raft.inbox import Inbox
from swarmd.store.raft.learning import Learning
from swarmd.store.raft.peers import Peers
from swarmd.store.raft.port import no_leader, not_leader, outcome_unknown
from swarmd.store.raft.proposals import Proposals
from swarmd.store.raft.reads import Reads
from swarmd.store.raft.replica import Replica
from swarmd.store.raft.scribe import Scribe
from swarmd.store.raft.snapshots import Base
from swarmd.store.raft.speech import outgoing, own_status
from swarmd.store.raft.timing import Timing
from swarmd.store.raft.transport import Transport

_log = logging.getLogger(__name__)

_ROLL_SECONDS = 10.0
_BYTES_PER_TURN = 4 << 20


class Member:
    """The pump's state and its turn."""

    def __init__(
        self,
        *,
        held: Held,
        replica: Replica,
        scribe: Scribe,
        peers: Peers,
        proposals: Proposals,
        transport: Transport,
        clock: Clock,
        timing: Timing,
        roll_due: Callable[[int, int], bool],
    ) -> None:
        self.held = held
        self.replica = replica
        self.scribe = scribe
        self.peers = peers
        self.proposals = proposals
        self.transport = transport
        self.clock = clock
        self.timing = timing
        self.links: set[str] = set()
        self.seeds: dict[str, str] = {}
        self.holding = False
        self.short = False
        self._roll_due = roll_due
        self._sealing = False
        self._lead_until = 0.0
        self._turned = clock.monotonic()
        self._wake = asyncio.Event()
        self._inbox = Inbox()
        self._fetched: Base | None = None
        self.reads = Reads(
            held, replica, transport.send, clock, timing, session=proposals.session, leader=self.leader
        )
        self._hearing = Hearing(held, peers, self._inbox, transport.send, clock, timing)

    @property
    def learning(self) -> Learning:
        return self._hearing.learning

    def wake(self) -> None:
        """There is something to do before the next tick."""
        self._wake.set()

    def frame(self, peer: str, frame: pb.PeerFrame) -> None:
        """A frame of ``peer`` arrived."""
        if not self.reads.hear(peer, frame):
            self._inbox.put(peer, frame)
            self._wake.set()

    def link(self, peer: str, up: bool) -> None:
        """The way to ``peer`` opened or closed."""
        (self.links.add if up else self.links.discard)(peer)
        for live in self.held.live.values():
            live.engine.set_connected(peer, up)

    def offer(self, base: Base) -> None:
        """A base newer than ours was fetched and may be installed."""
        self._fetched = base
        self._wake.set()

    @property
    def rolling(self) -> bool:
        """This member sealed as leader and expects to lead the next epoch in a moment."""
        return self.clock.monotonic() < self._lead_until

    def is_leader(self) -> bool:
        """Proposals made now have a way into the log."""
        current = self.held.current
        if current is None or self._is_stalled():
            return self.rolling and current is not None
        return self.rolling or (current.engine.term_applied() and not current.sealed)

    def _is_stalled(self) -> bool:
        """The disk holds the pump up for so long that the others have given this member up."""
        return len(self.held.members) > 1 and self.clock.monotonic() - self._turned > self.timing.quorum_lost

    def leader(self) -> str | None:
        """Who leads, as far as this member knows."""
        current = self.held.current
        if current is None or self.rolling:
            return None if current is None else current.engine.self_id
        return current.engine.leader()

    async def pause(self) -> None:
        """Until there is something to do, or the next tick."""
        try:
            async with asyncio.timeout(self.timing.tick):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def turn(self) -> None:
        """Do what there is to do.  Raises SwarmError when this member must not go on."""
        self._turned = self.clock.monotonic()
        self._hearing.turn()
        self._feed()
        for live in self.held.live.values():
            live.engine.tick()
        self._speak(early=True)
        await self.held.persist()
        self._speak()
        end = self._apply()
        # Before a roll: learners that it names shall begin their part of it meanwhile.
        self._hearing.teaching.turn()
        if end is not None:
            await self._roll(*end)
        elif self._fetched is not None:
            await self._install(self._fetched)
        self._watch_leadership()
        self.learning.turn()
        self.reads.turn()

    def _feed(self) -> None:
        """Hand proposals to the group this member leads."""
        current = self.held.current
        if current is None or current.sealed or self._sealing or not current.engine.term_applied():
            return
        if self.holding:
            return
        taken = self.proposals.take(_BYTES_PER_TURN)
        sealing = bool(taken) and isinstance(taken[-1].envelope.body, Seal)
        # While the base of this epoch is not written, a roll would save nothing and keep one log more.
        has_base = self.held.base_epoch == self.held.newest
        if not sealing and has_base and self._roll_due(current.engine.position.last, current.wal.size):
            # Never queued: behind another seal it would bring back the members before that one.
            taken.append(self.proposals.log(Seal(self.peers.located(self.held.members))))
            sealing = True
        for pending in taken:
            current.engine.append(encode_envelope(pending.envelope))
        self._sealing = sealing

    def _speak(self, *, early: bool = False) -> None:
        """Everything said so far is durable, or may be heard before it is: let it out."""
        for epoch, live in self.held.live.items():
            if early and not live.engine.may_speak_early():
                continue
            for peer, frame in outgoing(epoch, live.engine):
                self.transport.send(peer, frame)

    def _apply(self) -> tuple[int, Envelope, Seal] | None:
        """Apply what is committed; index, envelope and seal, once the newest epoch's is reached."""
        for index, data in self._agreed():
            envelope = decode_envelope(data)
            if isinstance(envelope.body, Seal):
                if self.held.current is not None:
                    self.held.current.sealed = True
                return index, envelope, envelope.body
            self.proposals.applied(envelope, self.replica.apply(envelope))
        return None

    def _agreed(self) -> list[tuple[int, bytes]]:
        """(index, command) of what was agreed upon in the newest epoch since, as member or as learner."""
        found: list[tuple[int, bytes]] = []
        for epoch, live in self.held.live.items():
            entries = live.engine.take_committed()
            if epoch == self.held.newest and not live.sealed:
                found = entries
        return found if self.held.copy is None else self.held.copy.take_durable()

    async def _roll(self, index: int, envelope: Envelope, seal: Seal) -> None:
        """The newest epoch is over: start the next from the state as it is now, and owe its base."""
        before = self.held.current
        led = before is not None and before.engine.leading
        if led and before is not None and before.engine.self_id in seal.members:
            self._lead_until = self.clock.monotonic() + _ROLL_SECONDS
        marker = self.replica.marker(self.held.newest + 1, seal, index)
        self.scribe.owe(marker, self.replica.view())
        await self.held.roll(marker)
        self.proposals.applied(envelope, None)
        self.proposals.requeue(Unavailable("The managers changed meanwhile; look and try again."))
        self._started()
        current = self.held.current
        if led and current is not None:
            self._lead_until = self.clock.monotonic() + self.timing.election_max
            current.engine.kick()
        elif led:
            self._kick_another()

    async def _install(self, base: Base) -> None:
        """Jump to a base that was fetched."""
        self._fetched = None
        if base.epoch <= self.held.newest:
            return
        self.proposals.fail(queued=not_leader(None), logged=outcome_unknown("This manager fell behind."))
        await self.held.adopt(base)
        self.held.stop_old()
        self.replica.restore(base)
        self._started()

    def _started(self) -> None:
        """An epoch began here: connect it, and give it what was said to it early."""
        self._sealing = False
        self.peers.arrived()
        self.peers.learn(self.held.members)
        current = self.held.current
        if current is not None:
            for peer in self.links:
                current.engine.set_connected(peer, True)
        self._inbox.began(self.held.newest)
        self.tell_status()
        self._wake.set()

    def _kick_another(self) -> None:
        """We led and are not part of what follows: have somebody stand for election at once."""
        candidates = set(self.held.members) & self.links
        heir = self.peers.newest_of(candidates, self.clock.monotonic())
        if heir is not None:
            self.transport.send(heir, pb.PeerFrame(kick=pb.Kick(epoch=self.held.newest)))

    def tell_status(self) -> None:
        """Tell everybody we know which epoch we hold."""
        now = self.clock.monotonic()
        targets = self.peers.targets([*self.held.groups(), {} if self.held.is_member else self.seeds], now)
        self.transport.set_peers(targets)
        frame = own_status(
            self.held,
            applied=self.replica.applied,
            address=self.peers.own_address,
            short=self.short,
            clock=self.clock.now(),
            heard=self.peers.heard(now),
        )
        for peer in targets:
            self.transport.send(peer, frame)

    def _watch_leadership(self) -> None:
        """Proposals of a member that does not lead any more are answered now."""
        current = self.held.current
        if current is not None:
            if current.engine.term_applied() or current.engine.leader() not in (None, current.engine.self_id):
                self._lead_until = 0.0
            if current.engine.leading or self.rolling:
                return
        self._lead_until = 0.0
        self._sealing = False
        if self.proposals:
            lost = outcome_unknown(str(no_leader()))
            self.proposals.fail(queued=not_leader(self.leader()), logged=lost)
