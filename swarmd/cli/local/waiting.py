"""Waiting for a thing that cannot call back, with an end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from swarmd.kit.clock import SystemClock

_SIDE_BY_SIDE = 8
_Item = TypeVar("_Item")

_clock = SystemClock()


def until(done: Callable[[], bool], *, seconds: float, every: float = 0.02) -> bool:
    """Ask ``done`` every ``every`` seconds for at most ``seconds``; whether it came true."""
    deadline = _clock.monotonic() + seconds
    pause = threading.Event()
    while not done():
        if _clock.monotonic() >= deadline:
            return False
        pause.wait(every)
    return True


def side_by_side(work: Callable[[_Item], None], items: Iterable[_Item]) -> None:
    """Do ``work`` for the items, a few at a time; after the first failure no further one is begun."""
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        doing = [pool.submit(work, item) for item in items]
        try:
            for each in doing:
                each.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
