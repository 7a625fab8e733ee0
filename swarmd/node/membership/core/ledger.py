"""What is believed of the others: which rumour stands, who is accused, who is dead, and what of it is news.

Gossip is news and takes effect at once.  Records from anti-entropy are knowledge, maybe old: a death found
there is no verdict, the accused is asked instead (only it can raise its version, so only it can settle it).
"""

from __future__ import annotations

import msgspec

from swarmd.node.membership.core.config import SwimConfig
from swarmd.node.membership.core.messages import EventKind, Gossip, MemberEvent, State, Update
from swarmd.node.membership.core.outbox import Outbox
from swarmd.node.membership.core.prng import Prng
from swarmd.node.membership.core.probing import Prober
from swarmd.node.membership.core.roster import Member, Roster
from swarmd.node.membership.core.suspicion import Suspicions
from swarmd.node.membership.core.sync import Sync


class Ledger:
    """Applies rumours and verdicts to the roster.  ``local`` is time without stalls, ``now`` the caller's."""

    def __init__(
        self,
        config: SwimConfig,
        roster: Roster,
        outbox: Outbox,
        suspicions: Suspicions,
        prober: Prober,
        sync: Sync,
        prng: Prng,
    ) -> None:
        self._config = config
        self._roster = roster
        self._outbox = outbox
        self._suspicions = suspicions
        self._prober = prober
        self._sync = sync
        self._prng = prng

    def hear(self, update: Update, local: float, now: float, *, learned: bool) -> None:
        """A rumour about another member; ``learned``: it came by anti-entropy."""
        member = self._roster.get(update.id)
        if member is None:
            if update.state.live:
                self._meet(update, local, now, learned=learned)
            return
        if update.version < member.record.version:
            return
        if update.version > member.record.version:
            self._renew(member.record, update, now)
        if learned and member.state.live != update.state.live and State.DEAD in (member.state, update.state):
            self._appeal(member, update)
        elif update.state is State.SUSPECT:
            self.suspect(update, update.by, local, now)
        elif update.state > member.state:
            self._end(update, local, now)

    def suspect(self, accused: Update, by: str, local: float, now: float) -> None:
        """``by`` got no answer from ``accused``, in that version of it."""
        member = self._roster.get(accused.id)
        if member is None or not member.state.live or member.record.version != accused.version:
            return
        members = self._roster.size()
        if not self._suspicions.accuse(member.id, by, local, members):
            return
        first = member.state is State.ALIVE
        record = msgspec.structs.replace(member.record, state=State.SUSPECT, by=by)
        self._roster.put(record, now)
        self._outbox.spread(record)
        if first:
            self._event("suspect", record)
        if self._prng.chance(self._config.volunteers(members)):
            self._prober.urgent(member.id)

    def last_looks(self, member_ids: list[str]) -> None:
        """Before these are dead, some of us look again: all come to this point at nearly the same time."""
        chance = self._config.volunteers(self._roster.size())
        for member_id in member_ids:
            member = self._roster.get(member_id)
            if member is not None and self._prng.chance(chance):
                self._prober.look(member)

    def bury(self, member_id: str, by: str, local: float, now: float) -> None:
        """It did not refute in time."""
        member = self._roster.get(member_id)
        if member is not None:
            self._end(msgspec.structs.replace(member.record, state=State.DEAD, by=by), local, now)

    def _meet(self, update: Update, local: float, now: float, *, learned: bool) -> None:
        alive = msgspec.structs.replace(update, state=State.ALIVE, by=update.id)
        self._roster.put(alive, now)
        self._event("up", alive)
        # What a newcomer learns in bulk is news to nobody else.
        if not learned:
            self._outbox.spread(alive)
        if update.state is State.SUSPECT:
            self.suspect(update, update.by, local, now)

    def _renew(self, known: Update, update: Update, now: float) -> None:
        """A higher version: it was alive when it raised it, whatever has been said of it since."""
        if not known.state.live and not update.state.live:
            self._roster.put(update, now)
            self._outbox.spread(update)
            return
        alive = msgspec.structs.replace(update, state=State.ALIVE, by=update.id)
        self._roster.put(alive, now)
        self._suspicions.clear(update.id)
        self._outbox.spread(alive)
        if not known.state.live or known.epoch != update.epoch:
            self._event("up", alive)
            return
        if known.state is State.SUSPECT:
            self._event("alive", alive)
        if (known.address, known.meta) != (alive.address, alive.meta):
            self._event("changed", alive)

    def _appeal(self, member: Member, update: Update) -> None:
        """Two halves of a swarm disagree on a death: send the accused what is said of it."""
        verdict = member.record if member.state is State.DEAD else update
        if verdict.state is not State.DEAD:
            return
        self._outbox.reply(member.address, Gossip((verdict,)))
        if member.state.live:
            self._prober.urgent(member.id)

    def _end(self, record: Update, local: float, now: float) -> None:
        """``record`` (dead or left) stands from now on."""
        self._roster.put(record, now)
        self._suspicions.clear(record.id)
        self._outbox.spread(record)
        self._sync.watch_dead(local)
        self._event("dead" if record.state is State.DEAD else "left", record)

    def _event(self, kind: EventKind, record: Update) -> None:
        event = MemberEvent(kind, record.id, record.address, record.epoch, record.incarnation, record.meta)
        self._outbox.effects.events.append(event)
