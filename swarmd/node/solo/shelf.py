"""The records of single containers on disk: a file each, replaced as a whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from swarmd.model.errors import Unavailable
from swarmd.node.solo.core.record import Record

_KEPT = ("upper", "log")


class Shelf:
    """``<data>/solo/<id>/``: ``record.json``, and what outlives a run of its program: ``upper/``, ``log/``.

    The runtime's directory of the container has links to those two, so that it can be made anew.
    """

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / "solo"
        self._containers = data_dir / "containers"

    def load(self) -> list[Record]:
        """Every record that can be read, the oldest first; one that a crash left half made is gone."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = []
        for directory in self._root.iterdir():
            try:
                found.append(msgspec.json.decode((directory / "record.json").read_bytes(), type=Record))
            except (OSError, msgspec.DecodeError):
                shutil.rmtree(directory, ignore_errors=True)
        return sorted(found, key=lambda record: record.created_at)

    def save(self, record: Record) -> None:
        """Durably.  Raises Unavailable when the disk does not take it."""
        directory = self._root / record.id
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = directory / "record.new"
            with new.open("wb") as file:
                file.write(msgspec.json.encode(record))
                file.flush()
                os.fsync(file.fileno())
            new.replace(directory / "record.json")
        except OSError as error:
            raise Unavailable(f"container {record.name} cannot be written to disk: {error}") from error

    def lay_out(self, container_id: str) -> None:
        """Prepare the runtime's directory.  Raises Unavailable."""
        base = self._containers / container_id
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in _KEPT:
                kept = self._root / container_id / name
                kept.mkdir(mode=0o700, parents=True, exist_ok=True)
                if not (base / name).is_symlink():
                    (base / name).symlink_to(kept.resolve())
        except OSError as error:
            raise Unavailable(f"container {container_id} cannot be prepared: {error}") from error

    def rewrite(self, container_id: str, name: str, old: str, new: str) -> None:
        """A file that was generated for a container becomes another, if nobody has changed it.  Where it is
        mounted in the container it is the same file.  Raises Unavailable."""
        path = self._containers / container_id / "files" / name
        try:
            if path.read_text() == old:
                path.write_text(new)
        except OSError as error:
            raise Unavailable(f"{name} of container {container_id} cannot be written: {error}") from error

    def remove(self, container_id: str) -> None:
        """Nothing of it is left."""
        shutil.rmtree(self._root / container_id, ignore_errors=True)
