"""When an accused member is dead.

A suspect has a long time to refute while one member accuses it and the shortest when enough others agree.
When the time is over it gets a last look: one more ping, and a timeout to answer it.  A member that
stalled for as long as the shortest suspicion is so still heard when it wakes up.
"""

from __future__ import annotations

import math

import msgspec

from swarmd.node.membership.core.config import SwimConfig

# Deadlines are sums of floats: what is due a microsecond from now is due.
EPSILON = 1e-6


class Suspicion(msgspec.Struct):
    """One member under suspicion: since when (local seconds), by whom, and the end of its last look."""

    started: float
    accusers: set[str]
    look_ends: float | None = None


class Suspicions:
    """All suspicions of one member."""

    def __init__(self, config: SwimConfig) -> None:
        self._config = config
        self._open: dict[str, Suspicion] = {}

    def accuse(self, member_id: str, by: str, now: float, members: int) -> bool:
        """Note an accuser.  True when this is news worth spreading: the first ones, until enough agree."""
        suspicion = self._open.get(member_id)
        if suspicion is None:
            self._open[member_id] = Suspicion(now, {by})
            return True
        enough = len(suspicion.accusers) > self._config.confirmations_wanted(self._witnesses(members))
        if by in suspicion.accusers or enough:
            return False
        suspicion.accusers.add(by)
        return True

    def clear(self, member_id: str) -> None:
        """It refuted, died or left."""
        self._open.pop(member_id, None)

    def wake(self, members: int) -> float:
        """When the next suspicion has something to decide; infinity without any."""
        return min((self._deadline(s, members) for s in self._open.values()), default=math.inf)

    def due(self, now: float, members: int, look: float) -> tuple[list[str], list[str]]:
        """(members to look at once more, members that are dead).  A look takes ``look`` seconds."""
        looks: list[str] = []
        dead: list[str] = []
        for member_id, suspicion in self._open.items():
            if self._deadline(suspicion, members) > now + EPSILON:
                continue
            if suspicion.look_ends is None:
                suspicion.look_ends = now + look
                looks.append(member_id)
            else:
                dead.append(member_id)
        for member_id in dead:
            del self._open[member_id]
        return looks, dead

    def _deadline(self, suspicion: Suspicion, members: int) -> float:
        if suspicion.look_ends is not None:
            return suspicion.look_ends
        confirmed = len(suspicion.accusers) - 1
        return suspicion.started + self._config.suspicion_time(
            members, confirmed, witnesses=self._witnesses(members)
        )

    def _witnesses(self, members: int) -> int:
        """Of ``members`` those who may still agree: other suspects will hardly speak.

        At most a third is left out.  Whoever suspects nearly everybody is more likely cut off itself, and
        must go on being slow to call the others dead.
        """
        return members - min(max(0, len(self._open) - 1), members // 3)
