"""Files that are replaced whole: whoever reads one, also after a crash, finds the old or the new."""

from __future__ import annotations

import os
from pathlib import Path

from swarmd.model.errors import Unavailable


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file, for root only.  Raises Unavailable, naming the file; it is as before then."""
    try:
        replace_durably(path, data)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}") from error


def replace_durably(path: Path, data: bytes) -> None:
    """The same.  Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in ``path`` durable.  Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
