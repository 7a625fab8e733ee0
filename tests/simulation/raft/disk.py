"""A disk that forgets what was not synced when its power is cut, that tears, fills up, fails and rots.

Files are real, in a directory of the machine (best in memory); what is durable of them is kept beside.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from swarmd.store.raft.files import SystemDisk
from tests.simulation.raft.loop import PowerLost

SECTOR = 512


class SimDisk(SystemDisk):
    """The disk of one machine.  ``before`` and ``after`` each operation the power may go."""

    def __init__(self, directory: Path, rng: Random) -> None:
        self.directory = directory
        self.rng = rng
        self.full = False
        self.low = False
        self.room: int | None = None
        self.broken = False
        self.gone = False
        self.erased = False
        self.operations = 0
        self.crash_at: int | None = None
        self.crash_rate = 0.0
        self.on_operation: Callable[[str], None] = lambda _: None
        self._durable: dict[int, bytes] = {}
        self._names: dict[str, int] = {}
        self._pending: list[tuple[str, str, str]] = []
        self._pinned: dict[int, int] = {}

    # -- the port ----------------------------------------------------------------------------------

    def write(self, fd: int, data: bytes) -> None:
        self._point("write")
        if self.full or (self.room is not None and len(data) > self.room):
            super().write(fd, data[: self.rng.randrange(len(data))])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._goes():
            super().write(fd, data[: self.rng.randrange(len(data))])
            self._lose_power()
        super().write(fd, data)
        self._point("written")

    def sync(self, fd: int) -> None:
        self._point("sync")
        if self.broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        stat = os.fstat(fd)
        self._pin(stat.st_ino, fd)
        self._durable[stat.st_ino] = os.pread(self._pinned[stat.st_ino], stat.st_size, 0)
        self._point("synced")

    def truncate(self, fd: int, size: int) -> None:
        self._point("truncate")
        super().truncate(fd, size)
        self._point("truncated")

    def rename(self, source: Path, target: Path) -> None:
        self._point("rename")
        for path in (source, target):
            self._pin_path(path)
        super().rename(source, target)
        self._pending.append(("rename", source.name, target.name))
        self._point("renamed")

    def remove(self, path: Path) -> None:
        self._point("remove")
        self._pin_path(path)
        super().remove(path)
        self._pending.append(("remove", path.name, ""))
        self._point("removed")

    def sync_directory(self, path: Path) -> None:
        self._point("sync directory")
        if path == self.directory:
            self._names = {entry.name: entry.inode() for entry in sorted_entries(path)}
            self._pending.clear()
        self._point("directory synced")

    def durable(self, name: str) -> bytes | None:
        """What the file ``name`` holds for certain after a loss of power; None without such a file."""
        return self._durable.get(self._names.get(name, -1))

    def free(self, path: Path) -> tuple[int, int]:
        return (0 if self.full or self.low else 1 << 40), 1 << 40

    # -- failing -----------------------------------------------------------------------------------

    def _point(self, what: str) -> None:
        if self.gone:
            raise PowerLost
        self.on_operation(what)
        if self._goes():
            self._lose_power()

    def _goes(self) -> bool:
        self.operations += 1
        return self.operations == self.crash_at or self.rng.random() < self.crash_rate

    def _lose_power(self) -> None:
        self.gone = True
        raise PowerLost

    def _pin(self, inode: int, fd: int) -> None:
        """Keep the file, so that its number is not given to another one and its bytes can be read."""
        if inode not in self._pinned:
            self._pinned[inode] = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)

    def _pin_path(self, path: Path) -> None:
        if path.exists():
            fd = os.open(path, os.O_RDONLY)
            self._pin(os.fstat(fd).st_ino, fd)
            os.close(fd)

    # -- coming back -------------------------------------------------------------------------------

    def back(self, *, power: bool) -> None:
        """The machine is switched on again; without ``power`` lost before, only its process had ended."""
        if power:
            self._settle_on_what_survived()
        self.gone = self.full = self.low = self.broken = False
        self.room = None
        self.crash_at = None

    def _settle_on_what_survived(self) -> None:
        files: dict[str, bytes] = {}
        for name, inode in self._surviving_names().items():
            files[name] = self._survive(inode)
        self.close()
        for entry in sorted_entries(self.directory):
            os.unlink(entry.path)
        self._durable, self._names, self._pending = {}, {}, []
        for name, data in files.items():
            path = self.directory / name
            path.write_bytes(data)
            inode = path.stat().st_ino
            self._names[name], self._durable[inode] = inode, data
            self._pin_path(path)

    def _surviving_names(self) -> dict[str, int]:
        """What the directory says: what was synced, a part of what followed, and perhaps new files."""
        if not self.directory.exists():
            return {}
        names = dict(self._names)
        actual = {entry.name: entry.inode() for entry in sorted_entries(self.directory)}
        moved = {name for _, a, b in self._pending for name in (a, b)}
        for name, inode in actual.items():
            if name not in names and name not in moved and self.rng.random() < 0.5:
                names[name] = inode
        for inode in [inode for inode in actual.values() if inode not in self._pinned]:
            self._pin_path(next(self.directory / n for n, i in actual.items() if i == inode))
        for kind, source, target in self._pending[: self.rng.randint(0, len(self._pending))]:
            inode_of_source = names.pop(source, None)
            if kind == "rename":
                # The source was written after the last sync of the directory: it has no durable name yet.
                found = actual.get(target) if inode_of_source is None else inode_of_source
                if found is not None:
                    names[target] = found
        return names

    def _survive(self, inode: int) -> bytes:
        """What is left of a file: all that was synced, and any sectors of what was written since."""
        durable = self._durable.get(inode, b"")
        fd = self._pinned.get(inode)
        written = os.pread(fd, os.fstat(fd).st_size, 0) if fd is not None else durable
        fate = self.rng.random()
        if not written.startswith(durable) or fate < 0.3:
            return durable
        if fate < 0.5:
            return written
        if fate < 0.8:
            return written[: self.rng.randint(len(durable), len(written))]
        return torn(durable, written, self.rng)

    def rot(self) -> str | None:
        """Flip a bit of something that is on the disk for good; answers where, None on an empty disk."""
        entries = [entry for entry in sorted_entries(self.directory) if entry.stat().st_size]
        if not entries:
            return None
        entry = self.rng.choice(entries)
        path = Path(entry.path)
        data = bytearray(path.read_bytes())
        position = self.rng.randrange(len(data))
        data[position] ^= 1 << self.rng.randrange(8)
        path.write_bytes(bytes(data))
        self._durable[path.stat().st_ino] = bytes(data)
        return f"byte {position} of {path.name}"

    def erase(self) -> None:
        """The disk is replaced by an empty one."""
        self.close()
        for entry in sorted_entries(self.directory):
            os.unlink(entry.path)
        self._durable, self._names, self._pending = {}, {}, []
        self.erased = True

    def has_base(self) -> bool:
        return any(e.name.endswith(".snapshot") for e in sorted_entries(self.directory))

    def is_blank(self) -> bool:
        """No daemon ever got so far as to hold something here."""
        return not any(
            e.name.startswith("base-") or e.name == "floor" for e in sorted_entries(self.directory)
        )

    def close(self) -> None:
        for fd in self._pinned.values():
            os.close(fd)
        self._pinned.clear()


def sorted_entries(directory: Path) -> list[os.DirEntry[str]]:
    """What is in ``directory``, in an order that does not depend on the file system."""
    if not directory.exists():
        return []
    with os.scandir(directory) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def torn(durable: bytes, written: bytes, rng: Random) -> bytes:
    """``written``, of whose un-synced part some sectors never arrived and read as before: as zeros."""
    data = bytearray(written)
    start = len(durable)
    while start < len(data):
        stop = min(len(data), (start // SECTOR + 1) * SECTOR)
        if rng.random() < 0.5:
            data[start:stop] = bytes(stop - start)
        start = stop
    return bytes(data)
