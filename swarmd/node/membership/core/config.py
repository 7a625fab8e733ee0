"""The timing of gossip, and the formulas that turn it into timeouts for a swarm of N members.

All times are seconds.  N counts the members believed to live, oneself included.
"""

from __future__ import annotations

import math

import msgspec

from swarmd.model.errors import Invalid

MAX_META_BYTES = 256


class SwimConfig(msgspec.Struct, frozen=True):
    """How often to look, how long to wait, how many to ask."""

    probe_interval: float = 1.0
    probe_timeout: float = 0.5
    indirect_probes: int = 3
    # Up to this many members everybody is looked at by two probes a round: with so few probers one
    # each would leave a dead member unseen for several rounds.
    small_swarm: int = 10

    suspicion_floor: float = 2.0
    suspicion_per_decade: float = 1.1
    suspicion_ceiling: float = 6.0
    confirmations: int = 3

    gossip_interval: float = 0.2
    gossip_fanout: int = 3
    gossip_burst: int = 4
    retransmit: int = 4
    packet_bytes: int = 1400

    health_limit: int = 8
    stall_tolerance: float = 0.5

    join_retry: float = 1.0
    rejoin_interval: float = 5.0
    keep_dead: float = 86_400.0
    sync_interval: float = 30.0
    sync_again: float = 2.0
    bulk_interval: float = 0.05
    bulk_packets: int = 32

    def __post_init__(self) -> None:
        for field in (
            "probe_interval",
            "probe_timeout",
            "gossip_interval",
            "suspicion_floor",
            "bulk_interval",
        ):
            value = getattr(self, field)
            if value <= 0:
                raise Invalid(f"gossip: {field} is {value}, but must be more than 0 seconds")
        if self.packet_bytes < 800:
            raise Invalid(f"gossip: packet_bytes is {self.packet_bytes}, but must be at least 800")

    def probe_budget(self) -> float:
        """From a ping to the verdict on it: direct and indirect answers both need a full timeout."""
        return max(self.probe_interval, 2 * self.probe_timeout)

    def probes_per_round(self, members: int) -> int:
        """How many members one round of probing looks at."""
        return 2 if members <= self.small_swarm else 1

    def suspicion_range(self, members: int) -> tuple[float, float]:
        """(shortest, longest) time a suspect has to refute: max(floor, 1.1 s × log10 N), and 6 × that."""
        floor = max(self.suspicion_floor, self.suspicion_per_decade * math.log10(max(1, members)))
        return floor, floor * self.suspicion_ceiling

    def confirmations_wanted(self, members: int) -> int:
        """How many further accusers bring a suspicion down to its floor; nobody is asked who is not there."""
        return max(0, min(self.confirmations, members - 2))

    def suspicion_time(self, members: int, confirmed: int, *, witnesses: int | None = None) -> float:
        """Time to refute with ``confirmed`` accusers besides the first; ``witnesses`` of the members count.

        longest − (longest − shortest) × log(confirmed + 1) / log(wanted + 1), never under the shortest.
        """
        shortest, longest = self.suspicion_range(members)
        wanted = self.confirmations_wanted(members if witnesses is None else witnesses)
        if confirmed >= wanted:
            return shortest
        share = math.log(confirmed + 1) / math.log(wanted + 1)
        return longest - (longest - shortest) * share

    def transmissions(self, members: int) -> int:
        """How often one member repeats one update: 4 × ceil(log10(N + 1))."""
        return self.retransmit * math.ceil(math.log10(members + 1))

    def sync_every(self, members: int) -> float:
        """Time between two anti-entropy exchanges: 30 s up to 32 members, one more interval per doubling."""
        if members <= 32:
            return self.sync_interval
        return self.sync_interval * (math.ceil(math.log2(members / 32)) + 1)

    def volunteers(self, members: int) -> float:
        """The chance with which one member looks for itself, so that about twice the wanted number do."""
        return min(1.0, 2 * self.confirmations / max(1, members))


def lan() -> SwimConfig:
    """For machines in one data centre: suspect in about 1–2 s, dead in 3.5–6 s in a small swarm."""
    return SwimConfig()


def local() -> SwimConfig:
    """For many daemons on one machine: looks twice as often, but gives the same time to refute."""
    return SwimConfig(
        probe_interval=0.5,
        probe_timeout=0.25,
        gossip_interval=0.1,
        stall_tolerance=0.25,
        join_retry=0.5,
        rejoin_interval=2.0,
        sync_interval=10.0,
        sync_again=1.0,
    )
