"""How slow this machine is now, for bounds that mean the swarm and not its neighbours."""

from __future__ import annotations

import time

_WORK_SECONDS = 0.2
_MOST = 10.0


def slowness() -> float:
    """Seconds that pass while a thread computes for one: 1.0 with a core to itself; at most 10.0."""
    began, computed = time.monotonic(), time.thread_time()
    while time.thread_time() - computed < _WORK_SECONDS:
        pass
    return min(_MOST, max(1.0, (time.monotonic() - began) / _WORK_SECONDS))
