"""What a member measures of itself: how long changes and syncs take, how often it saw another leader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from swarmd.store.raft.files import Disk
from swarmd.telemetry.tally import Timings

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Measures:
    """Since the member was made."""

    def __init__(self) -> None:
        self.proposing = Timings(BOUNDS)
        self.syncing = Timings(BOUNDS)
        self.leader_changes = 0
        self._leader: str | None = None

    def saw(self, leader: str | None) -> None:
        """Who leads; nobody, for a moment, is no change."""
        if leader is None or leader == self._leader:
            return
        if self._leader is not None:
            self.leader_changes += 1
        self._leader = leader


class TimedDisk:
    """A disk whose syncs are timed; called in threads."""

    def __init__(self, disk: Disk, syncing: Timings, now: Callable[[], float]) -> None:
        self._disk = disk
        self._syncing = syncing
        self._now = now
        self.write, self.truncate, self.free = disk.write, disk.truncate, disk.free
        self.rename, self.remove = disk.rename, disk.remove

    def sync(self, fd: int) -> None:
        began = self._now()
        self._disk.sync(fd)
        self._syncing.add(self._now() - began)

    def sync_directory(self, path: Path) -> None:
        began = self._now()
        self._disk.sync_directory(path)
        self._syncing.add(self._now() - began)
