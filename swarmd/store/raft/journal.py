"""The log as the Raft core sees it: a list in memory, and what changed since it was last made durable."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from swarmd.model.errors import SwarmError
from swarmd.store.raft.records import Entry, Hard, Item, Truncate
from swarmd.store.raft.wal import LogState

REGULAR: Final = b"\x00"
"""What a proposal begins with in the core's log; whatever else is there is the core's own."""

NO_OP: Final = b"\x01"


class Position(msgspec.Struct, frozen=True):
    """Where a member's log of an epoch stands: its last entry, and how far it is agreed upon."""

    last: int
    last_term: int
    committed: int


def commands_of(entries: Iterable[tuple[bytes, int, int]]) -> list[tuple[int, bytes]]:
    """(index, command) of the entries that are not the core's own."""
    return [(index, data[1:]) for data, index, _ in entries if data[:1] == REGULAR]


class Journal:
    """The core's log in memory; what changed waits in ``items`` to be made durable by the caller."""

    def __init__(self, state: LogState) -> None:
        self._entries: list[tuple[bytes, int, int]] = [(NO_OP, 1, 0)]
        self._entries += [(entry.command, entry.index, entry.term) for entry in state.entries]
        self._term = state.term
        self._vote = state.vote
        self.items: list[Item] = []

    def add(self, command: bytes, idx: int, term: int) -> None:
        self._entries.append((command, idx, term))
        self.items.append(Entry(idx, term, command))

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803 - the core's interface
        del self._entries[entryFrom:]
        self.items.append(Truncate(entryFrom + 1))

    def term_at(self, index: int) -> int:
        """The term of entry ``index``, which must be there; 1 is the implicit first one."""
        return self._entries[index - 1][2]

    def between(self, after: int, last: int, most: int) -> list[Entry]:
        """The entries behind ``after`` up to ``last``: one, or more that have ``most`` bytes together."""
        found: list[Entry] = []
        size = 0
        for position in range(after, min(last, len(self._entries))):
            command, index, term = self._entries[position]
            size += len(command)
            if found and size > most:
                break
            found.append(Entry(index, term, command))
        return found

    def clear(self) -> None:
        raise SwarmError("The Raft core wants to clear its log, which epochs never do.")

    def deleteEntriesTo(self, entryTo: int) -> None:  # noqa: N802, N803 - the core's interface
        raise SwarmError("The Raft core wants to compact its log, which epochs never do.")

    def __getitem__(self, item: Any) -> Any:
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def _destroy(self) -> None:
        """Nothing to give back: the file belongs to the log."""

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:  # noqa: N802, N803 - the core's interface
        """Not kept: a leader says it again."""

    def getRaftCommitIndex(self) -> int:  # noqa: N802 - the core's interface
        return 1

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803
        if (term, votedForNodeId) != (self._term, self._vote):
            self._term, self._vote = term, votedForNodeId
            self.items.append(Hard(term, votedForNodeId))

    def getCurrentTerm(self) -> int:  # noqa: N802 - the core's interface
        return self._term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802 - the core's interface
        return self._vote

    def onOneSecondTimer(self) -> None:  # noqa: N802 - the core's interface
        """Nothing is written by the clock."""
