"""How long things take, in seconds, all of them moved by one multiplier."""

from __future__ import annotations

import msgspec


class Timing(msgspec.Struct, frozen=True):
    """``multiplier`` 1 suits a data centre; raise it where round trips or fsyncs take long."""

    multiplier: float = 1.0

    @property
    def tick(self) -> float:
        return 0.05 * self.multiplier

    @property
    def heartbeat(self) -> float:
        return 0.1 * self.multiplier

    @property
    def election_min(self) -> float:
        return 1.0 * self.multiplier

    @property
    def election_max(self) -> float:
        return 1.5 * self.multiplier

    @property
    def quorum_lost(self) -> float:
        """Without answers of a majority for this long a leader stops leading."""
        return 2.0 * self.multiplier

    @property
    def status(self) -> float:
        """Between two status probes."""
        return 0.25 * self.multiplier

    @property
    def behind(self) -> float:
        """A member that sees a newer epoch for this long fetches its base instead of waiting for the log."""
        return 0.5 * self.multiplier

    @property
    def fresh(self) -> float:
        """What a peer said is believed for this long."""
        return 1.5 * self.multiplier
