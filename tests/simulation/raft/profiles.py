"""Which disasters a run has, and how many."""

from __future__ import annotations

import msgspec


class Profile(msgspec.Struct, frozen=True):
    """Rates are per second of the simulated time; ``crash_rate`` per operation of a disk.

    A client writes one command at a time, and now and then ``burst`` at once.
    """

    seconds: float = 20.0
    clients: int = 4
    burst: int = 5
    roll_entries: tuple[int, int] = (20, 60)
    faults: dict[str, float] = {}
    fault_rate: float = 0.5
    crash_rate: float = 0.0
    delay: float = 0.0005
    fsync: float = 0.002
    changes: float = 0.0
    bound: float = 30.0


_LINKS = {"cut": 3, "isolate": 3, "one way": 2, "break lanes": 3, "spike": 1, "bridge": 1}
_CRASHES = {
    "power": 4,
    "kill": 2,
    "restart": 1,
    "power all": 1,
    "restart all": 1,
    "pause": 2,
    "pause leader": 1,
}
_DISK = {"slow disk": 2, "full disk": 2, "little room": 2, "broken disk": 1}

PROFILES = {
    "calm": Profile(fault_rate=0.0),
    "links": Profile(faults={**_LINKS, "pause": 1, "pause leader": 1}, fault_rate=0.8),
    "crash": Profile(faults={**_CRASHES, "break lanes": 1}, fault_rate=0.7, crash_rate=0.0005),
    "disk": Profile(faults={**_DISK, "rot": 2, "erase": 1, "power": 3, "isolate": 1}, fault_rate=0.7),
    "churn": Profile(
        faults={**_LINKS, **_CRASHES}, fault_rate=0.3, crash_rate=0.0003, changes=0.8, seconds=25.0
    ),
    "mixed": Profile(
        faults={**_LINKS, **_CRASHES, **_DISK, "move": 1},
        fault_rate=0.6,
        crash_rate=0.0005,
        changes=0.3,
        seconds=25.0,
    ),
    "far": Profile(
        faults={**_LINKS, **_CRASHES}, fault_rate=0.4, delay=0.02, fsync=0.01, changes=0.3, seconds=30.0
    ),
    "forget": Profile(
        faults={"power": 2, "power all": 6, "isolate": 3, "cut": 2, "break lanes": 1, "pause leader": 1},
        fault_rate=1.0,
        crash_rate=0.003,
        fsync=0.02,
    ),
    "crowd": Profile(
        faults={**_LINKS, **_CRASHES}, fault_rate=0.4, crash_rate=0.0003, changes=0.2, clients=12, burst=25
    ),
    "slow": Profile(
        faults={**_LINKS, "slow disk": 6, "power": 2}, fault_rate=0.5, fsync=0.03, changes=0.3, seconds=30.0
    ),
}
