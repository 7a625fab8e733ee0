"""Time that passes only while this process has its turn, for members of a group that live in one process.

Their timers are fractions of a second.  A machine with other work to do stops a process for longer than that,
anywhere, and then who is looked at first takes the others for dead.  So here time passes

    while the loop waits       as it does for everybody, but never beyond the timer that was waited for
    while something runs       as much as the processor worked for this thread

and, for members that share a network in memory (``skips``), at once while all of them and their disks wait.
So a test of what happens within a second says the same on a machine with a load of 1 or of 100.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pysyncobj import monotonic, syncobj

from swarmd.kit.clock import SystemClock


class OwnTime:
    """The time of one loop, which must be that of the calling thread, from now on."""

    def __init__(self, loop: Any, *, skips: bool) -> None:
        self._select = loop._selector.select
        self._in_thread = loop.run_in_executor
        self._skips = skips
        self._threads = 0
        self._processor = time.pthread_getcpuclockid(threading.get_ident())
        self._at = time.monotonic()
        self._worked = self._work()

    def now(self) -> float:
        """Seconds; never goes backwards."""
        return self._at + self._work() - self._worked

    def stand_still(self, seconds: float) -> None:
        """Nobody had a turn for so long."""
        self._at += seconds

    def select(self, timeout: float | None = None) -> Any:
        """What the loop's selector does, timed."""
        at, began = self.now(), time.monotonic()
        if self._skips and timeout is not None and not self._threads:
            found = self._select(0)
            waited = 0.0 if found else timeout
        else:
            found = self._select(timeout)
            waited = time.monotonic() - began
        self._at = at + (waited if timeout is None else min(waited, max(timeout, 0.0)))
        self._worked = self._work()
        return found

    def run_in_executor(self, executor: Any, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """What the loop does, counted."""
        found: asyncio.Future[Any] = self._in_thread(executor, work, *args)
        self._threads += 1
        found.add_done_callback(self._ended)
        return found

    def _ended(self, _: object) -> None:
        self._threads -= 1

    def _work(self) -> float:
        return time.clock_gettime(self._processor)


async def begin(monkeypatch: pytest.MonkeyPatch, *, skips: bool) -> OwnTime:
    """From now on the running loop, :class:`SystemClock` and the Raft core know this time only."""
    loop: Any = asyncio.get_running_loop()
    own = OwnTime(loop, skips=skips)
    monkeypatch.setattr(loop, "run_in_executor", own.run_in_executor)
    monkeypatch.setattr(loop._selector, "select", own.select)
    monkeypatch.setattr(loop, "time", own.now)
    monkeypatch.setattr(SystemClock, "monotonic", lambda _: own.now())
    monkeypatch.setattr(monotonic, "monotonic", own.now)
    monkeypatch.setattr(syncobj, "monotonicTime", own.now)
    return own
