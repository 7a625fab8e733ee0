"""A learner's own copy of the log of an epoch that does not count it among its members.

All that is in it is agreed upon, so it never takes anything back, holds neither term nor vote, and may be
applied as soon as it is durable.  It is the file a member of that epoch would have: when the seal names this
machine, the next epoch begins from it by a marker, as it does on the members.
"""

from __future__ import annotations

from collections.abc import Iterable

from swarmd.store.raft.journal import commands_of
from swarmd.store.raft.records import Entry, Item
from swarmd.store.raft.wal import Wal

_MOST_WAITING = 4 << 20


class LogCopy:
    """The copy of ``epoch`` in ``wal``.  ``last`` and ``last_term`` are those of its last durable entry."""

    def __init__(self, epoch: int, wal: Wal) -> None:
        self.epoch = epoch
        self.wal = wal
        self.last, self.last_term = 1, 0
        self.applied = 1
        self._waiting: list[Entry] = []
        self._durable: list[Entry] = []
        self.synced(wal.state.entries)

    def take(self, entries: Iterable[Entry]) -> None:
        """Have those made durable that go on where this ends; what does not fit, or is too much, is lost."""
        last, term = self.last, self.last_term
        if self._waiting:
            last, term = self._waiting[-1].index, self._waiting[-1].term
        size = sum(len(entry.command) for entry in self._waiting)
        for entry in entries:
            if entry.index <= last:
                continue  # sent twice
            size += len(entry.command)
            fits = entry.index == last + 1 and entry.term >= term and entry.command
            if not fits or (self._waiting and size > _MOST_WAITING):
                return
            self._waiting.append(entry)
            last, term = entry.index, entry.term

    def take_items(self) -> list[Item]:
        """What must be made durable; then it is to be given to :meth:`synced`."""
        waiting, self._waiting = self._waiting, []
        return list(waiting)

    def synced(self, items: Iterable[Item]) -> None:
        """``items`` are on the disk."""
        for entry in items:
            assert isinstance(entry, Entry)
            self._durable.append(entry)
            self.last, self.last_term = entry.index, entry.term

    def take_durable(self) -> list[tuple[int, bytes]]:
        """(index, command) of what became durable since; entries of the Raft core itself are left out."""
        durable, self._durable = self._durable, []
        self.applied = self.last
        return commands_of((entry.command, entry.index, entry.term) for entry in durable)
