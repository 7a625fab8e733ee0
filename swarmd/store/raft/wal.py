"""The durable log of one epoch: appended by group commits, each fsynced before anything is promised.

After a failed write or fsync the log is poisoned: what the disk holds is unknown, so nothing more is written.
Blocking; call :meth:`Wal.commit` in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from swarmd.security.sealing import PLAIN, Sealer
from swarmd.store.raft.files import Disk, DiskFailed, disk_failed
from swarmd.store.raft.records import (
    HEADER_SIZE,
    Corrupt,
    Entry,
    Hard,
    Item,
    Marker,
    Truncate,
    encode_record,
    file_header,
    recover,
)


class LogState(msgspec.Struct, frozen=True):
    """What a member must remember of an epoch: entries from index 2 on, its term and its vote.

    ``marker`` says how the epoch began here; None where it began with a base that was there before.
    """

    entries: list[Entry]
    term: int
    vote: str | None
    marker: Marker | None = None


class Wal:
    """The log file of one epoch, open for appending; with ``marker`` an empty one begins with that.

    What is found or begun is durable when the constructor returns.  It raises DiskFailed, Corrupt.
    """

    def __init__(
        self, path: Path, epoch: int, disk: Disk, sealer: Sealer = PLAIN, marker: Marker | None = None
    ) -> None:
        self._path = path
        self._epoch = epoch
        self._sealer = sealer
        self._disk = disk
        self._failed: DiskFailed | None = None
        self._fd = -1
        self._sequence = 0
        self._crc = 0
        self.size = HEADER_SIZE
        self.state = self._open(epoch, marker)

    def _open(self, epoch: int, marker: Marker | None) -> LogState:
        """Read what is there, cut a torn tail off, or begin a new file."""
        try:
            data = self._path.read_bytes() if self._path.exists() else b""
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            # A crash before the header's own sync leaves a piece of it or zeros: nothing was promised yet.
            if len(data) <= HEADER_SIZE and (file_header(epoch).startswith(data) or not any(data)):
                return self._begin(epoch, marker)
            return self._continue(data, epoch, marker)
        except OSError as error:
            self.close()
            raise disk_failed(self._path, error) from error
        except Corrupt:
            self.close()
            raise

    def _begin(self, epoch: int, marker: Marker | None) -> LogState:
        self._disk.truncate(self._fd, 0)
        data = file_header(epoch)
        if marker is not None:
            # One write and one sync for both: writers wait for this.
            record, self._crc = encode_record([marker], 1, 0, epoch=epoch, sealer=self._sealer)
            self._sequence, self.size = 1, self.size + len(record)
            data += record
        self._disk.write(self._fd, data)
        self._disk.sync(self._fd)
        self._disk.sync_directory(self._path.parent)
        return LogState([], 0, None, marker)

    def _continue(self, data: bytes, epoch: int, marker: Marker | None) -> LogState:
        found = recover(data, epoch, str(self._path), self._sealer)
        state = replay(found.items, str(self._path))
        if marker is not None and not found.items:
            return self._begin(epoch, marker)
        if marker is not None and state.marker != marker:
            raise Corrupt(f"The log {self._path} does not begin where this manager ended epoch {epoch - 1}.")
        self._sequence, self._crc, self.size = found.sequence, found.crc, found.good_bytes
        if found.good_bytes < len(data):
            self._disk.truncate(self._fd, found.good_bytes)
        # What a killed process wrote and did not sync is here, and would be promised without being durable.
        self._disk.sync(self._fd)
        self._disk.sync_directory(self._path.parent)
        os.lseek(self._fd, found.good_bytes, os.SEEK_SET)
        return state

    def commit(self, items: Sequence[Item]) -> None:
        """Make ``items`` durable as one record, all or nothing.  Raises DiskFailed, then always."""
        if self._failed is not None:
            raise self._failed
        record, crc = encode_record(
            items, self._sequence + 1, self._crc, epoch=self._epoch, sealer=self._sealer
        )
        try:
            self._disk.write(self._fd, record)
            self._disk.sync(self._fd)
        except OSError as error:
            self._failed = disk_failed(self._path, error)
            raise self._failed from error
        self._sequence += 1
        self._crc = crc
        self.size += len(record)

    def close(self) -> None:
        """Give the file back; nothing is written."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def replay(items: Sequence[Item], name: str) -> LogState:
    """The state after ``items``; raises Corrupt when they do not follow from one another."""
    entries: list[Entry] = []
    term, vote, marker = 0, None, None
    for number, item in enumerate(items):
        match item:
            case Marker():
                if number:
                    raise Corrupt(f"The log {name} says in its middle how its epoch began.")
                marker = item
            case Entry():
                if item.index != len(entries) + 2:
                    raise Corrupt(f"The log {name} has entry {item.index} where {len(entries) + 2} is due.")
                entries.append(item)
            case Hard():
                term, vote = item.term, item.vote
            case Truncate():
                if not 2 <= item.first <= len(entries) + 2:
                    raise Corrupt(f"The log {name} takes back entry {item.first}, which it does not have.")
                del entries[item.first - 2 :]
    return LogState(entries, term, vote, marker)
