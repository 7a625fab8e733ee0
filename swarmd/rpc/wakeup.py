"""Waiting in the kernel without missing a signal.

A handler in Python runs in the main thread, between two of its steps.  A signal that comes when the last step
before a wait is over, or that the kernel gives to another thread, would wait for as long as that thread does:
Ctrl-C without an effect.  So whoever waits listens to what Python's own handler writes, too.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the rest makes enumerations, which takes its time
import contextlib
import os
import threading

_told: list[int] = []


def begin() -> None:
    """In the main thread of a program that has nobody else for this (an event loop, say)."""
    if not _told:
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        _told.append(reading)


def wait(fd: int, seconds: float | None) -> None:
    """Until there is something to read from ``fd``; None: for as long as it takes.

    Raises TimeoutError, and whatever a signal's handler raises.  Without :func:`begin`, and in other threads,
    nothing is waited for.
    """
    if not _told or threading.current_thread() is not threading.main_thread():
        return
    import select  # not every command waits

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.register(_told[0], select.POLLIN)
    while True:
        found = {one for one, _ in poll.poll(None if seconds is None else seconds * 1000)}
        if not found:
            raise TimeoutError
        if _told[0] in found:
            with contextlib.suppress(BlockingIOError):
                os.read(_told[0], 4096)
        if fd in found:
            return
