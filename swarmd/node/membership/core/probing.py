"""Who is looked at, through whom, and who did not answer.

A round pings the neighbour or the next of a random order, in turn; after a timeout the ping is repeated and
others are asked to ping for us; when the round's time is over without an answer the member failed.
Lifeguard's local health stretches these times while our own answers go missing: the slow one is probably us.
"""

from __future__ import annotations

import math
from collections import deque

import msgspec

from swarmd.node.membership.core.config import SwimConfig
from swarmd.node.membership.core.messages import Ack, Address, Nack, Ping, PingRequest
from swarmd.node.membership.core.outbox import Outbox
from swarmd.node.membership.core.prng import Prng
from swarmd.node.membership.core.roster import Member, Roster
from swarmd.node.membership.core.suspicion import EPSILON


class Probe(msgspec.Struct):
    """One outstanding question.  Times are local seconds; infinity once the step is taken."""

    target: str
    version: tuple[int, int]
    indirect_at: float
    fails_at: float
    helpers: int = 0
    nacks: int = 0


class Relay(msgspec.Struct):
    """A ping on behalf of another member."""

    asker: str
    address: Address
    sequence: int
    nack_at: float
    ends_at: float


class Health:
    """How far we trust our own ears: 0 is well; every timeout is multiplied by score + 1."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.score = 0

    @property
    def scale(self) -> int:
        return self.score + 1

    def note(self, change: int) -> None:
        """Worse by ``change`` (better when negative), within 0 and the limit."""
        self.score = min(self._limit, max(0, self.score + change))


class Prober:
    """The failure detector of one member; :meth:`tick` says who failed."""

    def __init__(
        self, own_id: str, config: SwimConfig, roster: Roster, outbox: Outbox, prng: Prng, now: float
    ) -> None:
        self._own_id = own_id
        self._config = config
        self._roster = roster
        self._outbox = outbox
        self._prng = prng
        self._sequence = 0
        self._probes: dict[int, Probe] = {}
        self._relays: dict[int, Relay] = {}
        self._urgent: deque[str] = deque()
        self._turn = False
        self._round_at = now + prng.fraction() * config.probe_interval
        self.health = Health(config.health_limit)

    def wake(self) -> float:
        """When :meth:`tick` has something to do."""
        times = [self._round_at]
        times += [min(probe.indirect_at, probe.fails_at) for probe in self._probes.values()]
        times += [min(relay.nack_at, relay.ends_at) for relay in self._relays.values()]
        return min(times)

    def tick(self, now: float) -> list[Member]:
        """Take every step that is due; answers the members that failed their probe."""
        now += EPSILON
        failed = self._judge(now)
        self._serve_relays(now)
        if self._round_at <= now:
            self._round_at = now + self._config.probe_interval * self.health.scale
            for _ in range(self._config.probes_per_round(self._roster.size())):
                self._start(now)
        return failed

    def urgent(self, member_id: str) -> None:
        """Look at this one in the next round: somebody else doubts it."""
        if member_id not in self._urgent:
            self._urgent.append(member_id)

    def look(self, member: Member) -> None:
        """One ping outside the rounds; it carries the suspicion, the answer is a refutation."""
        self._outbox.send(member.address, Ping(self._next(), member.id), to=member.id)

    def acked(self, sequence: int) -> None:
        """An answer to a ping of ours, or to one we sent for somebody."""
        if self._probes.pop(sequence, None) is not None:
            self.health.note(-1)
            return
        relay = self._relays.pop(sequence, None)
        if relay is not None:
            self._outbox.send(relay.address, Ack(relay.sequence), to=relay.asker)

    def nacked(self, sequence: int) -> None:
        """A helper lives, but did not reach the target either."""
        probe = self._probes.get(sequence)
        if probe is not None:
            probe.nacks += 1

    def relay(self, request: PingRequest, asker: str, address: Address, now: float) -> None:
        """Ping for ``asker``; its no must arrive before the asker's own time is over, hence 0.8."""
        sequence = self._next()
        timeout = self._config.probe_timeout
        ends = now + self._config.probe_budget()
        self._relays[sequence] = Relay(asker, address, request.sequence, now + 0.8 * timeout, ends)
        self._outbox.send((request.host, request.port), Ping(sequence, request.target), to=request.target)

    def stop(self) -> None:
        """No more verdicts."""
        self._probes.clear()
        self._relays.clear()
        self._round_at = math.inf

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def _start(self, now: float) -> None:
        member = self._choose()
        if member is None:
            return
        scale = self.health.scale
        indirect_at = now + self._config.probe_timeout * scale
        fails_at = now + self._config.probe_budget() * scale
        sequence = self._next()
        self._probes[sequence] = Probe(member.id, member.record.version, indirect_at, fails_at)
        self._outbox.send(member.address, Ping(sequence, member.id), to=member.id)

    def _choose(self) -> Member | None:
        asked = {probe.target for probe in self._probes.values()}
        while self._urgent:
            member = self._roster.get(self._urgent.popleft())
            if member is not None and member.state.live and member.id not in asked:
                return member
        self._turn = not self._turn
        if self._turn:
            # Chance alone leaves a member unseen for several rounds now and then; its neighbour does not.
            member = self._roster.successor(self._own_id)
            if member is not None and member.id not in asked:
                return member
        for _ in range(len(asked) + 1):
            member = self._roster.next_in_round()
            if member is None or member.id not in asked:
                return member
        return None

    def _judge(self, now: float) -> list[Member]:
        failed: list[Member] = []
        for sequence, probe in list(self._probes.items()):
            member = self._roster.get(probe.target)
            if member is None or not member.state.live:
                del self._probes[sequence]
            elif probe.fails_at <= now:
                del self._probes[sequence]
                self.health.note(probe.helpers - probe.nacks if probe.helpers else 1)
                # A member that refuted or restarted since the question was asked has answered it.
                if member.record.version == probe.version:
                    failed.append(member)
            elif probe.indirect_at <= now:
                self._ask_others(sequence, probe, member)
        return failed

    def _ask_others(self, sequence: int, probe: Probe, member: Member) -> None:
        probe.indirect_at = math.inf
        helpers = self._roster.pick(self._config.indirect_probes, without=member.id, steady=True)
        probe.helpers = len(helpers)
        host, port = member.address
        for helper in helpers:
            self._outbox.send(helper.address, PingRequest(sequence, member.id, host, port), to=helper.id)
        # Once more directly: a single lost datagram must not cost the others anything.
        self._outbox.send(member.address, Ping(sequence, member.id), to=member.id)

    def _serve_relays(self, now: float) -> None:
        for sequence, relay in list(self._relays.items()):
            if relay.nack_at <= now:
                relay.nack_at = math.inf
                self._outbox.send(relay.address, Nack(relay.sequence), to=relay.asker)
            if relay.ends_at <= now:
                del self._relays[sequence]
