"""The whole of one member: what it is told, what it then sends, reports and when it wants to wake.

No clock, socket or randomness of its own: the same inputs give the same outputs.  After every call the
caller sends ``Effects.send``, reports ``Effects.events`` and calls :meth:`Swim.tick` at :attr:`Swim.wake`.
``now`` is any monotonic time in seconds.

A tick that comes much later than asked for means that this member stood still, not the others.  The time
lost is taken out of its local time, so that no deadline of anybody else passes while it was not looking.
"""

from __future__ import annotations

import math

import msgspec

from swarmd.model.errors import Invalid
from swarmd.node.membership.core.config import MAX_META_BYTES, SwimConfig
from swarmd.node.membership.core.ledger import Ledger
from swarmd.node.membership.core.messages import (
    Ack,
    Address,
    Digest,
    Effects,
    Gossip,
    Message,
    Nack,
    Ping,
    PingRequest,
    Records,
    State,
    Update,
)
from swarmd.node.membership.core.outbox import Outbox
from swarmd.node.membership.core.prng import Prng
from swarmd.node.membership.core.probing import Prober
from swarmd.node.membership.core.roster import Member, Roster
from swarmd.node.membership.core.suspicion import EPSILON, Suspicions
from swarmd.node.membership.core.sync import Sync

_FORGET_EVERY = 60.0


class Swim:
    """One member of the swarm, named ``own.id``, as a state machine.

    ``epoch`` tells runs of the same member apart: a restarted member needs a greater one than before
    (it takes a greater one by itself when it hears of a greater).  ``seed`` feeds its random choices.
    """

    def __init__(
        self,
        member_id: str,
        address: Address,
        *,
        epoch: int,
        seed: int,
        now: float,
        config: SwimConfig | None = None,
        meta: bytes = b"",
    ) -> None:
        self._config = config or SwimConfig()
        host, port = address
        self._own = Update(State.ALIVE, member_id, epoch, 0, host, port, _checked(meta), member_id)
        prng = Prng(seed)
        self._roster = Roster(prng)
        self._outbox = Outbox(self._config, self._roster)
        self._suspicions = Suspicions(self._config)
        self._prober = Prober(member_id, self._config, self._roster, self._outbox, prng, now)
        self._sync = Sync(self._config, self._roster, self._outbox, prng, now)
        self._ledger = Ledger(
            self._config, self._roster, self._outbox, self._suspicions, self._prober, self._sync, prng
        )
        self._gossip_at = now
        self._forget_at = now + _FORGET_EVERY
        self._lost = 0.0
        self.wake = self._next_wake()

    # What the owner may ask.

    @property
    def own(self) -> Update:
        """Our own record as the others are told."""
        return self._own

    @property
    def health(self) -> int:
        """Local health: 0 is well, the limit is bad."""
        return self._prober.health.score

    @property
    def quiet(self) -> bool:
        """Nothing is left to be told (after :meth:`leave`: the goodbye is out)."""
        return len(self._outbox) == 0 or not self._roster.live()

    def members(self) -> dict[str, Member]:
        """Every other known member by id, the dead included until they are forgotten."""
        return {member.id: member for member in self._roster}

    # What it is told.

    def tick(self, now: float) -> Effects:
        """Time has come: probe, judge, gossip, compare."""
        local = self._enter(now)
        for member in self._prober.tick(local):
            self._ledger.suspect(member.record, self._own.id, local, now)
        look = self._config.probe_timeout * self._prober.health.scale
        looks, dead = self._suspicions.due(local, self._roster.size(), look)
        self._ledger.last_looks(looks)
        for member_id in dead:
            self._ledger.bury(member_id, self._own.id, local, now)
        self._sync.tick(local, self._own)
        if len(self._outbox) and self._gossip_at <= local + EPSILON:
            self._gossip(local)
        if self._forget_at <= local + EPSILON:
            self._forget_at = local + _FORGET_EVERY
            self._roster.forget(now - self._config.keep_dead)
        return self._leave_call(now)

    def receive(self, now: float, address: Address, sender: str, message: Message) -> Effects:
        """``sender`` (authenticated) says ``message`` from ``address``."""
        local = self._enter(now)
        if sender == self._own.id:
            return self._leave_call(now)
        learned = isinstance(message, Records)
        for update in message.updates:
            if update.id == self._own.id:
                self._about_us(update, address, local)
            else:
                self._ledger.hear(update, local, now, learned=learned)
        self._answer(message, address, sender, local)
        return self._leave_call(now)

    def join(self, now: float, seeds: list[Address]) -> Effects:
        """Get to know the swarm through any of ``seeds``; tried again until one answers."""
        local = self._enter(now)
        self._sync.join(local, [seed for seed in seeds if seed != self._own.address], self._own)
        self._outbox.spread(self._own)
        return self._leave_call(now)

    def set_meta(self, now: float, meta: bytes) -> Effects:
        """Tell everybody something about us: at most 256 bytes, replaces what was told before."""
        local = self._enter(now)
        if meta != self._own.meta:
            self._raise(local, meta=_checked(meta), incarnation=self._own.incarnation + 1)
        return self._leave_call(now)

    def leave(self, now: float) -> Effects:
        """Say goodbye.  Keep calling :meth:`tick` until :attr:`quiet`, then stop for good."""
        local = self._enter(now)
        self._own = msgspec.structs.replace(self._own, state=State.LEFT)
        self._prober.stop()
        self._sync.stop()
        self._outbox.spread(self._own)
        self._gossip(local)
        return self._leave_call(now)

    # Time.

    def _enter(self, now: float) -> float:
        late = now - self.wake
        if late > self._config.stall_tolerance:
            self._lost += late
            self._prober.health.note(1)
        return now - self._lost

    def _leave_call(self, now: float) -> Effects:
        # Never in the past, where it would look like a stall: something that is due already is due now.
        self.wake = max(now, self._next_wake())
        return self._outbox.collect()

    def _next_wake(self) -> float:
        gossip = self._gossip_at if len(self._outbox) else math.inf
        suspicion = self._suspicions.wake(self._roster.size())
        return self._lost + min(self._prober.wake(), self._sync.wake(), suspicion, gossip, self._forget_at)

    # What members say.

    def _answer(self, message: Message, address: Address, sender: str, now: float) -> None:
        match message:
            case Ping(sequence=sequence, target=target):
                if target == self._own.id and self._own.state is not State.LEFT:
                    self._outbox.send(address, Ack(sequence), to=sender)
                    if self._roster.get(sender) is None:
                        self._sync.ask(address, self._own, to=sender)
            case Ack(sequence=sequence):
                self._prober.acked(sequence)
            case Nack(sequence=sequence):
                self._prober.nacked(sequence)
            case PingRequest():
                self._prober.relay(message, sender, address, now)
            case Digest():
                if self._own.state is not State.LEFT:
                    self._sync.answer(message, address, sender, now, self._own)
            case Gossip() | Records():
                pass

    def _about_us(self, update: Update, address: Address, now: float) -> None:
        own = self._own
        if own.state is State.LEFT:
            return
        if update.version < own.version:
            if update.state is not State.ALIVE:
                # It missed the refutation; nothing else would tell it.
                self._outbox.reply(address, Gossip((own,)))
            return
        if update.version == own.version and update.state is State.ALIVE:
            return
        if update.state is not State.ALIVE:
            self._prober.health.note(1)
        # A greater epoch is what an earlier run of ours left behind, while the clock was ahead.
        epoch = own.epoch if update.epoch <= own.epoch else update.epoch + 1
        self._raise(now, epoch=epoch, incarnation=update.incarnation + 1)
        self._outbox.reply(address, Gossip((self._own,)))

    def _raise(self, now: float, **changes: object) -> None:
        self._own = msgspec.structs.replace(self._own, **changes)
        self._outbox.spread(self._own)
        self._gossip_at = min(self._gossip_at, now)

    # Telling.

    def _gossip(self, now: float) -> None:
        self._gossip_at = now + self._config.gossip_interval
        if not self._roster.live():
            # Our own record travels with every digest, so the first we meet hears of it.
            self._outbox.hush()
            return
        self._outbox.gossip(self._roster.pick(self._config.gossip_fanout))


def _checked(meta: bytes) -> bytes:
    if len(meta) > MAX_META_BYTES:
        raise Invalid(f"gossip: meta has {len(meta)} bytes, but at most {MAX_META_BYTES} are allowed")
    return meta
