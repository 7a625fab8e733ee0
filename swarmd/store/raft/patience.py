"""How long a follower bears its leader's silence before it thinks of an election.  Pure.

A leader that is merely not heard may be slow: it gets the election timeout.  One whose connection has ended
too is most likely gone, for its kernel closed it: two heartbeats are enough.
"""

from __future__ import annotations

from swarmd.store.raft.timing import Timing


class Patience:
    """What one member heard of its leader, and whether the way to it has closed since.  Times in seconds."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._heard: float | None = None
        self._closed = False

    def hear(self, now: float) -> None:
        """A leader of this term or later spoke."""
        self._heard = now
        self._closed = False

    def way_closed(self, now: float, rank: int) -> float:
        """The connection to the leader ended: when to ask for votes unless it is heard again.

        ``rank``, this member's place among those who are left, keeps them from standing at the same time.
        """
        self._closed = True
        return now + 2 * (1 + rank) * self._timing.heartbeat

    def next_try(self, now: float, timeout: float) -> float:
        """When to ask for votes again unless the leader is heard before.

        ``timeout`` is the core's random election timeout; its random part keeps the members apart.
        """
        if not self._closed:
            return now + timeout
        return now + 2 * self._timing.heartbeat + timeout - self._timing.election_min

    def silence(self, now: float) -> float | None:
        """For how long no leader was heard; None when none ever was."""
        return None if self._heard is None else now - self._heard

    def is_over(self, now: float) -> bool:
        """Nobody is known to lead any more: others may be voted for."""
        limit = 2 * self._timing.heartbeat if self._closed else self._timing.election_min
        silence = self.silence(now)
        return silence is None or silence > limit
