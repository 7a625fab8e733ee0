"""Rumours waiting to be told, and the packets that carry them.

Every packet takes the least told rumours along, as many as fit.  A packet to a member that is held
for suspect or dead tells it so first (the buddy system): it is the one who can refute.
"""

from __future__ import annotations

import msgspec

from swarmd.node.membership.core.config import SwimConfig
from swarmd.node.membership.core.messages import Address, Digest, Effects, Gossip, Message, State, Update
from swarmd.node.membership.core.roster import Member, Roster

# Header, tag, and the fields of the largest message besides its updates.
_RESERVED = 250


class _Rumour(msgspec.Struct):
    update: Update
    size: int
    number: int
    told: int = 0


class Outbox:
    """Collects the packets of one input; :meth:`collect` hands them over."""

    def __init__(self, config: SwimConfig, roster: Roster) -> None:
        self._config = config
        self._roster = roster
        # By member and accuser: several accusations of one member are told side by side.
        self._rumours: dict[str, dict[str, _Rumour]] = {}
        self._number = 0
        self.effects = Effects()

    def collect(self) -> Effects:
        """What piled up since the last call."""
        effects, self.effects = self.effects, Effects()
        return effects

    def __len__(self) -> int:
        return len(self._rumours)

    def spread(self, update: Update) -> None:
        """Tell everybody; replaces what was being told of the member, unless it accuses it once more."""
        self._number += 1
        about = self._rumours.get(update.id, {})
        same = all(
            (r.update.state, r.update.version) == (update.state, update.version) for r in about.values()
        )
        if not same or update.state is not State.SUSPECT:
            about = {}
        about[update.by] = _Rumour(update, update.size(), self._number)
        self._rumours[update.id] = about

    def hush(self) -> None:
        """Nobody is left to hear it: what is said of others would be stale when somebody is again."""
        self._rumours.clear()

    def send(self, address: Address, message: Message, *, to: str = "") -> None:
        """Send ``message`` with as many rumours as fit; ``to`` is the receiver's id where it is known."""
        room = self._room(message)
        first = self._buddy(to)
        room -= sum(update.size() for update in first)
        rest = self._take(room, without=to if first else "")
        self._append(address, message, message.updates + first + rest)

    def reply(self, address: Address, message: Message) -> None:
        """Send ``message`` as it is."""
        self.effects.send.append((address, message))

    def gossip(self, members: list[Member]) -> None:
        """Tell these members; more than one packet each while there is more than fits in one."""
        for _ in range(self._config.gossip_burst):
            for member in members:
                if not self._rumours:
                    return
                self.send(member.address, Gossip(), to=member.id)
            if all(rumour.told for rumour in self._all()):
                return

    def pack(self, records: list[Update]) -> int:
        """How many of ``records``, from the first, fit into one packet without rumours (at least 1)."""
        room = self._config.packet_bytes - _RESERVED
        for count, record in enumerate(records):
            room -= record.size()
            if room < 0:
                return max(1, count)
        return len(records)

    def _room(self, message: Message) -> int:
        room = self._config.packet_bytes - _RESERVED - sum(update.size() for update in message.updates)
        return room - len(message.buckets) if isinstance(message, Digest) else room

    def _buddy(self, to: str) -> tuple[Update, ...]:
        member = self._roster.get(to) if to else None
        return () if member is None or member.state is State.ALIVE else (member.record,)

    def _take(self, room: int, without: str) -> tuple[Update, ...]:
        if not self._rumours:
            return ()
        limit = self._config.transmissions(self._roster.size())
        taken: list[Update] = []
        for rumour in sorted(self._all(), key=lambda r: (r.told, -r.number)):
            if rumour.update.id == without or rumour.size > room:
                continue
            room -= rumour.size
            taken.append(rumour.update)
            rumour.told += 1
            if rumour.told >= limit:
                self._drop(rumour.update)
        return tuple(taken)

    def _all(self) -> list[_Rumour]:
        return [rumour for about in self._rumours.values() for rumour in about.values()]

    def _drop(self, update: Update) -> None:
        about = self._rumours[update.id]
        del about[update.by]
        if not about:
            del self._rumours[update.id]

    def _append(self, address: Address, message: Message, updates: tuple[Update, ...]) -> None:
        packet = msgspec.structs.replace(message, updates=updates) if updates else message
        self.effects.send.append((address, packet))
