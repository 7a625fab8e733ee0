"""Decide how long a task that is to stop goes on serving.

left the mesh ──► delay: others that have not heard yet still send here ──► timeout: open connections may end
──► stop signal
"""

from __future__ import annotations

from msgspec import Struct

from swarmd.model.spec import TaskTemplate

DELAY = 2.0
"""Seconds without new connections for a service that says nothing of it; a second without any is enough."""

_SETTLED = 1.0
_SHORTEST_LOOK, _LONGEST_LOOK = 0.25, 2.0
_QUIET = 3.0
"""A wait shorter than this is not told: a word costs an entry in the managers' log."""
_WORD_EVERY = 5.0


class Wait(Struct, frozen=True):
    """Look again in ``seconds``; ``message`` tells the users why, if there is something new to tell."""

    seconds: float
    message: str = ""


class Drain:
    """One task's drain.  ``reachable``: others can open connections to it at all; ``patient``: they may end.

    A task that nobody reaches waits only for a delay that its service asks for.
    """

    def __init__(self, template: TaskTemplate, now: float, *, reachable: bool, patient: bool) -> None:
        asked = template.drain_delay
        self._began = self._busy_at = now
        self._settles = asked is None
        delay = DELAY if asked is None and reachable else asked or 0.0
        self._delayed = now + delay
        self._end = self._delayed + (template.drain_timeout if patient and reachable else 0.0)
        self._told_at = now - _WORD_EVERY
        self._told: int | None = -1

    def look(self, now: float, connections: int | None) -> Wait | None:
        """What to wait for with so many ``connections`` open (None: nobody can tell); None: stop it now."""
        if connections != 0:
            self._busy_at = now
        if now >= self._end or self._is_done(now, connections):
            return None
        until = self._delayed if now < self._delayed else self._end
        pause = min(_LONGEST_LOOK, max(_SHORTEST_LOOK, (now - self._began) / 10))
        return Wait(min(pause, until - now), self._word(now, connections))

    def _is_done(self, now: float, connections: int | None) -> bool:
        if now < self._delayed:
            return self._settles and now - self._busy_at >= _SETTLED
        return connections == 0

    def _word(self, now: float, connections: int | None) -> str:
        """Rarely, and only when it is news; the seconds alone are none."""
        is_delay = now < self._delayed
        subject = None if is_delay else connections
        if self._end - self._began < _QUIET or subject == self._told or now - self._told_at < _WORD_EVERY:
            return ""
        self._told, self._told_at = subject, now
        rest = (self._delayed if is_delay else self._end) - now
        if is_delay:
            return f"draining: no new connections, for {rest:.0f} s"
        if connections is None:
            return f"draining: open connections cannot be counted on this node, up to {rest:.0f} s more"
        noun = "connection" if connections == 1 else "connections"
        return f"draining: {connections} {noun} open, up to {rest:.0f} s more"
