"""One process at a time works on a data directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from swarmd.model.errors import Unavailable


def take_lock(data: Path) -> int:
    """Lock ``data`` until the process ends or the descriptor answered is closed.

    Raises Unavailable when another process has it.
    """
    descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Unavailable(f"another daemon uses the data directory {data}: stop it first") from error
    return descriptor


@contextlib.contextmanager
def locked(data: Path) -> Iterator[None]:
    """``data`` is this process's alone for the block.  Raises Unavailable."""
    descriptor = take_lock(data)
    try:
        yield
    finally:
        os.close(descriptor)
