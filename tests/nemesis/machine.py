"""How slow this machine is now, for bounds that mean the swarm and not its neighbours."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_WORK_SECONDS = 0.2
_MOST = 10.0
_ENOUGH = 50_000_000
"""Nanoseconds: who ran for less says little of how long work takes."""


def slowness() -> float:
    """Seconds that pass while a thread computes for one: 1.0 with a core to itself; at most 10.0."""
    began, computed = time.monotonic(), time.thread_time()
    while time.thread_time() - computed < _WORK_SECONDS:
        pass
    return min(_MOST, max(1.0, (time.monotonic() - began) / _WORK_SECONDS))


class Work(NamedTuple):
    """Nanoseconds that a process's threads ran, and that they were ready and waited for a core."""

    ran: int
    waited: int


def work(marker: str) -> dict[int, Work]:
    """By pid, of the processes whose command line holds ``marker`` (``/proc/PID/task/TID/schedstat``)."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if marker in (process / "cmdline").read_text(errors="replace"):
                found[int(process.name)] = _of_threads(process)
    return found


def _of_threads(process: Path) -> Work:
    ran = waited = 0
    for each in process.glob("task/*/schedstat"):
        with contextlib.suppress(OSError):  # this one has ended meanwhile
            counts = each.read_text().split()
            ran, waited = ran + int(counts[0]), waited + int(counts[1])
    return Work(ran, waited)


def starvation(before: Mapping[int, Work], now: Mapping[int, Work]) -> float:
    """As :func:`slowness`, but of the processes themselves, the one that waited most between the two looks.

    It differs where they are in control groups: those share the cores as groups, whatever is in them.
    """
    worst = 1.0
    for pid, (ran, waited) in now.items():
        past = before.get(pid, Work(0, 0))
        ran, waited = ran - past.ran, waited - past.waited
        if ran >= _ENOUGH:
            worst = max(worst, (ran + waited) / ran)
    return min(_MOST, worst)
