"""Processes that are recognised again, signalled and awaited without mistaking one for another."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swarmd.cli.local.core.plan import Process


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time in ticks of ``pid``; None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def boot_id() -> str:
    """Differs after every start of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> Process | None:
    """``pid`` as a :class:`Process`; None when it is gone."""
    stat = _stat(pid)
    return None if stat is None else Process(pid=pid, started=stat[1], boot=boot_id())


def is_alive(process: Process | None) -> bool:
    """Whether exactly this process runs; one that has ended and is not reaped yet does not."""
    if process is None or process.boot != boot_id():
        return False
    stat = _stat(process.pid)
    return stat is not None and stat[1] == process.started and stat[0] not in "ZX"


@contextmanager
def _held(process: Process | None) -> Iterator[int | None]:
    """A pidfd of the process, None when it does not run (any more)."""
    if process is None or not is_alive(process):
        yield None
        return
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield fd if is_alive(process) else None
    finally:
        os.close(fd)


def end(process: Process | None, signum: signal.Signals, *, seconds: float) -> bool:
    """Signal the process and wait for its end; whether it ended (or had) within ``seconds``."""
    with _held(process) as fd:
        if fd is None:
            return True
        try:
            signal.pidfd_send_signal(fd, signum)
        except ProcessLookupError:
            return True
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
