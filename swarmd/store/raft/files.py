"""Durable files: write all, fsync, rename, fsync the directory.  Errors of the disk become one SwarmError."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from swarmd.model.errors import Unavailable

_SYNC_BYTES = 4 << 20


class DiskFailed(Unavailable):
    """The disk did not take what must be durable.  The member that sees it stops taking part."""


class Disk(Protocol):
    """Every call that changes what a disk holds, and how much it can, so that a test can watch or break them.

    All of them raise OSError.
    """

    def write(self, fd: int, data: bytes) -> None: ...
    def sync(self, fd: int) -> None: ...
    def truncate(self, fd: int, size: int) -> None: ...
    def rename(self, source: Path, target: Path) -> None: ...
    def remove(self, path: Path) -> None: ...
    def sync_directory(self, path: Path) -> None: ...
    def free(self, path: Path) -> tuple[int, int]: ...


class SystemDisk:
    """The machine's own disk."""

    def write(self, fd: int, data: bytes) -> None:
        """Write all of ``data``, however many calls it takes."""
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def sync(self, fd: int) -> None:
        os.fdatasync(fd)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Take the name away, if it is there."""
        path.unlink(missing_ok=True)

    def sync_directory(self, path: Path) -> None:
        """Make the names in ``path`` durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def free(self, path: Path) -> tuple[int, int]:
        """(free, all) bytes of the file system that holds ``path``, as this process may use them."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def disk_failed(path: Path, error: OSError) -> DiskFailed:
    """A sentence for the failed write of ``path``."""
    return DiskFailed(
        f"This manager cannot write {path}: {error.strerror or error}. It has stopped taking part in the "
        "swarm's decisions. Free or repair the disk, then restart the daemon."
    )


def replace_file(path: Path, data: bytes, disk: Disk) -> None:
    """Put ``data`` at ``path`` so that after a crash either the old or the new content is there.

    Raises DiskFailed; the old content is there then.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        try:
            _write_new(temporary, data, disk)
        except OSError:
            # On a full disk the log needs the room.
            disk.remove(temporary)
            raise
        disk.rename(temporary, path)
        disk.sync_directory(path.parent)
    except OSError as error:
        raise disk_failed(path, error) from error


def _write_new(path: Path, data: bytes, disk: Disk) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        # Much that is not synced yet would be waited for by the next sync of the log beside it.
        for start in range(0, len(data), _SYNC_BYTES):
            disk.write(fd, data[start : start + _SYNC_BYTES])
            disk.sync(fd)
    finally:
        os.close(fd)
