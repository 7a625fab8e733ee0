"""The records of single containers on disk: a file each, replaced as a whole."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import msgspec

from swarmd.image.database import Spare
from swarmd.image.streams import disk_errors
from swarmd.model.errors import Unavailable
from swarmd.node.solo.core.record import Record

_KEPT = ("upper", "log")
_ATTEMPTS = 5


class Shelf:
    """``<data>/solo/<id>/``: ``record.json``, and what outlives a run of its program: ``upper/``, ``log/``.

    The runtime's directory of the container has links to those two, so that it can be made anew.
    """

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / "solo"
        self._containers = data_dir / "containers"
        self._spare = Spare(data_dir / "solo.spare")

    def load(self) -> list[Record]:
        """Every record that can be read, the oldest first; one that a crash left half made is gone."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._spare.keep()
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
        is_new = not directory.exists()
        data = msgspec.json.encode(record)
        try:
            with disk_errors(self._root, "containers"):
                if is_new:  # what is there must be stopped and removed, but not made, on a full disk
                    _replace(directory, data)
                else:
                    self._spare.helping(lambda: _replace(directory, data))
        except OSError as error:
            raise Unavailable(
                f"container {record.name} cannot be written to disk: {error.strerror}"
            ) from error

    def lay_out(self, container_id: str) -> None:
        """Prepare the runtime's directory.  Raises Unavailable."""
        base = self._containers / container_id
        try:
            with disk_errors(self._root, "containers"):
                base.mkdir(mode=0o700, parents=True, exist_ok=True)
                for name in _KEPT:
                    kept = self._root / container_id / name
                    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
                    if not (base / name).is_symlink():
                        (base / name).symlink_to(kept.resolve())
        except OSError as error:
            raise Unavailable(f"container {container_id} cannot be prepared: {error.strerror}") from error

    def rewrite(self, container_id: str, name: str, old: str, new: str) -> None:
        """A file that was generated for a container becomes another, if nobody has changed it.  Where it is
        mounted in the container it is the same file.  Raises Unavailable."""
        path = self._containers / container_id / "files" / name
        try:
            if path.read_text() == old:
                path.write_text(new)
        except OSError as error:
            raise Unavailable(
                f"{name} of container {container_id} cannot be written: {error.strerror}"
            ) from error

    def remove(self, container_id: str) -> None:
        """Nothing of it is left, neither of what was laid out in vain."""
        base = self._containers / container_id
        for name in _KEPT:
            if (base / name).is_symlink():
                (base / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is not there, as a rule
            base.rmdir()
        for _ in range(_ATTEMPTS):  # the log pump may make a file meanwhile, its last one
            shutil.rmtree(self._root / container_id, ignore_errors=True)
            if not (self._root / container_id).exists():
                break
        self._spare.keep()


def _replace(directory: Path, data: bytes) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = directory / "record.new"
    try:
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(directory / "record.json")
    finally:
        new.unlink(missing_ok=True)
