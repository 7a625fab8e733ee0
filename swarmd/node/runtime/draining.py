"""When all that a container has said is in its log: the pump is a process of its own and takes its time."""

from __future__ import annotations

import os
from pathlib import Path

from swarmd.kit.clock import Clock
from swarmd.node.runtime.core import logrecord
from swarmd.node.runtime.port import ContainerState

PATIENCE = 5.0
"""Seconds; a disk that is full takes nothing for as long as it likes."""
_PAUSE = 0.01


def has_ended(log: Path) -> bool:
    """Whether the pump has written all there will be into that directory."""
    try:
        for number in logrecord.file_numbers(os.listdir(log))[-1:]:
            with (log / logrecord.file_name(number)).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - logrecord.OVERHEAD))
                return logrecord.has_ended(file.read())
    except FileNotFoundError:
        pass
    return False


async def drained(state: ContainerState, log: Path, clock: Clock) -> None:
    """Wait for what is still to come into the log of an exited container, if it is kept: a link leads there.

    Whoever removes the container earlier loses the last words of its program, such as why it failed.
    """
    end = clock.monotonic() + PATIENCE
    while state.status == "exited" and log.is_symlink() and not has_ended(log) and clock.monotonic() < end:
        await clock.sleep(_PAUSE)
