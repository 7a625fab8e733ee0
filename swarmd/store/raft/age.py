"""How old what a member holds may be, for reads that ask nobody.  Pure."""

from __future__ import annotations

from swarmd.store.raft.held import Live
from swarmd.store.raft.timing import Timing


class Age:
    """When this member last held all that the swarm had agreed upon, but for what was on its way to it."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._current_at: float | None = None

    def note(self, live: Live | None, now: float) -> None:
        """Look at the newest group, a few times a second."""
        if live is None:
            return
        if live.engine.leading:
            # A leader notices only after a while that nobody follows it any more.
            alone = len(live.engine.members) == 1
            silence: float | None = 0.0 if alone else self._timing.quorum_lost
        else:
            silence = live.engine.silence()
        if silence is not None:
            self._current_at = max(self._current_at or 0.0, now - silence)

    def at(self, now: float) -> float | None:
        """Seconds; None when no leader was heard of since this member started."""
        return None if self._current_at is None else max(0.0, now - self._current_at)
