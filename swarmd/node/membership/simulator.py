"""A network of members in virtual time: seeded, so every run can be replayed from its numbers.

For tests and benchmarks.  Members can be killed, restarted, stalled (they stand still, then wake up late
and find a backlog) and partitioned; packets can be lost.  Nothing here waits: hours take seconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

import msgspec

from swarmd.node.membership.core.config import SwimConfig, lan
from swarmd.node.membership.core.messages import Address, Effects, MemberEvent, Message, State
from swarmd.node.membership.core.prng import Prng
from swarmd.node.membership.core.swim import Swim

Job = Callable[[], None]


class Seen(msgspec.Struct, frozen=True):
    """``event`` as ``observer`` reported it at ``time`` (virtual seconds)."""

    time: float
    observer: str
    event: MemberEvent


class SimMember(msgspec.Struct):
    """One simulated process.  ``asleep_until``: it stalls; None for ``swim`` when it is dead."""

    id: str
    address: Address
    swim: Swim | None
    group: int = 0
    asleep_until: float = 0.0
    backlog: list[Job] = msgspec.field(default_factory=list)
    ticking_at: float = -1.0
    runs: int = 0


class Network:
    """Members, the wires between them, and what each has reported."""

    def __init__(
        self, *, seed: int, loss: float = 0.0, delay: float = 0.002, config: SwimConfig | None = None
    ) -> None:
        self.now = 0.0
        self.loss = loss
        self.seen: list[Seen] = []
        self.packets = 0
        self.members: dict[str, SimMember] = {}
        self._delay = delay
        self._config = config or lan()
        self._prng = Prng(seed)
        self._by_address: dict[Address, SimMember] = {}
        self._queue: list[tuple[float, int, Job]] = []
        self._number = 0

    # What a test does to it.

    def add(self, member_id: str, seeds: Iterable[str] = ()) -> Swim:
        """Start a member (or start it again, as a new run) that joins through ``seeds``."""
        member = self.members.get(member_id)
        if member is None:
            number = len(self.members) + 1
            address = (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 7946)
            member = self.members[member_id] = SimMember(member_id, address, None)
            self._by_address[address] = member
        member.runs += 1
        member.ticking_at = -1.0
        swim = Swim(
            member_id,
            member.address,
            epoch=member.runs,
            seed=self._prng.bits(),
            now=self.now,
            config=self._config,
        )
        member.swim = swim
        self._done(member, swim.join(self.now, [self.members[seed].address for seed in seeds]))
        return swim

    def kill(self, member_id: str) -> None:
        """End it without a word."""
        member = self.members[member_id]
        member.swim = None
        member.backlog.clear()

    def stall(self, member_ids: Iterable[str], seconds: float) -> None:
        """Let these stand still; on waking they first find that time has passed, then their backlog."""
        for member_id in member_ids:
            self.members[member_id].asleep_until = self.now + seconds
            self._at(seconds, lambda member=self.members[member_id]: self._awake(member))  # type: ignore[misc]

    def partition(self, member_ids: Iterable[str]) -> None:
        """Cut these off from the rest; they hear each other.  :meth:`heal` ends it."""
        for member_id in member_ids:
            self.members[member_id].group = 1

    def heal(self) -> None:
        """Everybody hears everybody again."""
        for member in self.members.values():
            member.group = 0

    def tell(self, member_id: str, what: Callable[[Swim, float], Effects]) -> None:
        """Call ``what(swim, now)`` and do what it asks for."""
        member = self.members[member_id]
        if member.swim is not None:
            self._done(member, what(member.swim, self.now))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; True as soon as ``until`` (asked every 20 ms) holds, False when it never did."""
        end = self.now + seconds
        ask_at = self.now
        while self._queue and self._queue[0][0] <= end:
            if until is not None and self.now >= ask_at:
                if until():
                    return True
                ask_at = self.now + 0.02
            self.now, _, job = heapq.heappop(self._queue)
            job()
        if until is not None and until():
            return True
        self.now = end
        return False

    # What a test asks of it.

    def running(self) -> list[str]:
        """The ids of all members that were not killed."""
        return [member.id for member in self.members.values() if member.swim is not None]

    def view(self, observer: str) -> dict[str, State]:
        """How ``observer`` sees every other member it knows."""
        swim = self.members[observer].swim
        return {} if swim is None else {key: member.state for key, member in swim.members().items()}

    def agree(self) -> bool:
        """Every running member sees all other running members alive, and no one else."""
        running = set(self.running())
        for observer in running:
            live = {key for key, state in self.view(observer).items() if state is State.ALIVE}
            if live | {observer} != running:
                return False
        return True

    def events(self, kind: str, about: str | None = None, since: float = 0.0) -> list[Seen]:
        """Reports of this kind, about this member, from this time on."""
        return [
            seen
            for seen in self.seen
            if seen.event.kind == kind and seen.time >= since and about in (None, seen.event.id)
        ]

    # How it works.

    def _at(self, delay: float, job: Job) -> None:
        self._number += 1
        heapq.heappush(self._queue, (self.now + delay, self._number, job))

    def _done(self, member: SimMember, effects: Effects) -> None:
        self.seen += [Seen(self.now, member.id, event) for event in effects.events]
        for address, message in effects.send:
            self._send(member, address, message)
        swim = member.swim
        if swim is not None and (member.ticking_at < self.now or swim.wake < member.ticking_at):
            wake = member.ticking_at = max(self.now, swim.wake)
            self._at(wake - self.now, lambda: self._tick(member, swim, wake))

    def _tick(self, member: SimMember, swim: Swim, wake: float) -> None:
        if member.swim is not swim or member.asleep_until > self.now or member.ticking_at != wake:
            return
        member.ticking_at = -1.0
        self._done(member, swim.tick(self.now))

    def _awake(self, member: SimMember) -> None:
        if member.swim is None or member.asleep_until > self.now:
            return
        self._tick(member, member.swim, member.ticking_at)
        backlog, member.backlog = member.backlog, []
        for job in backlog:
            job()

    def _send(self, sender: SimMember, address: Address, message: Message) -> None:
        self.packets += 1
        receiver = self._by_address.get(address)
        if receiver is None or self._prng.chance(self.loss):
            return
        delay = self._delay * (0.5 + self._prng.fraction())
        self._at(delay, lambda: self._deliver(sender, receiver, message))

    def _deliver(self, sender: SimMember, receiver: SimMember, message: Message) -> None:
        if sender.group != receiver.group:
            return
        if receiver.asleep_until > self.now:
            receiver.backlog.append(lambda: self._deliver(sender, receiver, message))
            return
        if receiver.swim is not None:
            self._done(receiver, receiver.swim.receive(self.now, sender.address, sender.id, message))
