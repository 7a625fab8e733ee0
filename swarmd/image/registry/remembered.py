"""A file of what is only good to know: replaced at each change, never synced; empty if it cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def read(path: Path | None, kind: type[T], empty: T) -> T:
    """What was written there; ``empty`` without a path, a file or sense in it."""
    if path is None:
        return empty
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return empty


def write(path: Path, value: Any) -> None:
    """Replace it, all or nothing.  Raises OSError; what was there stays then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(value))
    fresh.replace(path)
