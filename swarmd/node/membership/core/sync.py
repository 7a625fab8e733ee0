"""Anti-entropy: two members compare digests and send each other the buckets in which they differ.

Gossip may lose a rumour, and two halves of a healed swarm know nothing of each other's news; this finds
every such difference.  The records go out in packets paced by time: a newcomer's socket must keep up.
"""

from __future__ import annotations

import math

from swarmd.node.membership.core.config import SwimConfig
from swarmd.node.membership.core.messages import Address, Digest, Records, Update
from swarmd.node.membership.core.outbox import Outbox
from swarmd.node.membership.core.prng import Prng
from swarmd.node.membership.core.roster import Roster, differing
from swarmd.node.membership.core.suspicion import EPSILON

# After a difference, compare this often in quick succession: where one was, more are.
_RESTLESS = 5


class Sync:
    """Asks, answers and sends the differences."""

    def __init__(self, config: SwimConfig, roster: Roster, outbox: Outbox, prng: Prng, now: float) -> None:
        self._config = config
        self._roster = roster
        self._outbox = outbox
        self._prng = prng
        self._seeds: list[Address] = []
        self._owed: dict[Address, list[str]] = {}
        self._sync_at = now + config.sync_interval * (0.5 + 0.5 * prng.fraction())
        self._restless = 0
        self._rejoin_at = math.inf
        self._bulk_at = math.inf

    def wake(self) -> float:
        """When :meth:`tick` has something to do."""
        return min(self._sync_at, self._rejoin_at, self._bulk_at)

    def tick(self, now: float, own: Update) -> None:
        """Take every step that is due."""
        now += EPSILON
        if self._bulk_at <= now:
            self._send_owed(now)
        if self._rejoin_at <= now:
            self._rejoin(now, own)
        if self._sync_at <= now:
            self._sync_at = now + self._pause()
            for member in self._roster.pick(1):
                self.ask(member.address, own, to=member.id)

    def join(self, now: float, seeds: list[Address], own: Update) -> None:
        """Make oneself known to ``seeds``, again and again until one answers; they are kept for later."""
        self._seeds += [seed for seed in seeds if seed not in self._seeds]
        self._rejoin(now, own)

    def ask(self, address: Address, own: Update, *, to: str = "", answer: bool = True) -> None:
        """Send our digest, and our own record with it: the receiver may not know us yet."""
        self._outbox.send(address, Digest(self._roster.digest(own), answer, (own,)), to=to)

    def answer(self, digest: Digest, address: Address, sender: str, now: float, own: Update) -> None:
        """Compare; owe the other what differs, and let it do the same."""
        buckets = differing(self._roster.digest(own), digest.buckets)
        if not buckets:
            return
        # Our own record travels with the digest.
        owed = dict.fromkeys(self._owed.get(address, []))
        owed.update(dict.fromkeys(self._roster.in_buckets(buckets)))
        self._owed[address] = list(owed)
        self._bulk_at = min(self._bulk_at, now)
        self._restless = _RESTLESS
        self._sync_at = min(self._sync_at, now + self._pause())
        if digest.answer:
            self.ask(address, own, to=sender, answer=False)

    def watch_dead(self, now: float) -> None:
        """Somebody died: it may come back, or it may be us who are cut off."""
        self._rejoin_at = min(self._rejoin_at, now + self._config.rejoin_interval * self._prng.fraction())

    def stop(self) -> None:
        """Ask nothing more."""
        self._sync_at = self._rejoin_at = self._bulk_at = math.inf
        self._owed.clear()

    def _pause(self) -> float:
        if self._restless:
            self._restless -= 1
            return self._config.sync_again * (0.5 + self._prng.fraction())
        return self._config.sync_every(self._roster.size())

    def _rejoin(self, now: float, own: Update) -> None:
        self._rejoin_at = math.inf
        gone = self._roster.gone()
        live = len(self._roster.live())
        if not live and self._seeds:
            for seed in self._prng.sample(self._seeds, 3):
                self.ask(seed, own)
            self._rejoin_at = now + self._config.join_retry * (1 + self._prng.fraction())
        if gone:
            # The fewer are dead, the fewer of the living knock: together about three a round and dead member.
            if self._prng.chance(3 * len(gone) / max(1, live)):
                for member in self._prng.sample(gone, 1):
                    self.ask(member.address, own, to=member.id)
            again = now + self._config.rejoin_interval * (0.5 + self._prng.fraction())
            self._rejoin_at = min(self._rejoin_at, again)

    def _send_owed(self, now: float) -> None:
        self._bulk_at = math.inf
        for _ in range(self._config.bulk_packets):
            if not self._owed:
                return
            address = next(iter(self._owed))
            ids = self._owed.pop(address)
            members = [member for member_id in ids if (member := self._roster.get(member_id)) is not None]
            records = [member.record for member in members]
            fits = self._outbox.pack(records)
            if records:
                self._outbox.reply(address, Records(tuple(records[:fits])))
            if fits < len(records):
                self._owed[address] = [member.id for member in members[fits:]]
        if self._owed:
            self._bulk_at = now + self._config.bulk_interval
