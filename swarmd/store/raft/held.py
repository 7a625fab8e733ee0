"""The epochs this machine holds: the newest base, running groups and their logs, and when each may go.

The order of durability lives here: the base, then the floor, then the log of the new epoch; only then may the
group speak.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from swarmd.security.sealing import PLAIN, Sealer
from swarmd.store.raft.engine import Engine
from swarmd.store.raft.files import Disk
from swarmd.store.raft.records import Corrupt
from swarmd.store.raft.snapshots import Base, Floor, SnapshotStore
from swarmd.store.raft.timing import Timing
from swarmd.store.raft.wal import Wal

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Live:
    """A running group: its engine, its log, and whether its seal was applied here."""

    def __init__(self, engine: Engine, wal: Wal) -> None:
        self.engine = engine
        self.wal = wal
        self.sealed = False


class Held:
    """What ``store`` holds, and the groups that run from it.  All disk work is done in one thread."""

    def __init__(
        self,
        self_id: str,
        open_store: Callable[[], SnapshotStore],
        disk: Disk,
        timing: Timing,
        sealer: Sealer = PLAIN,
    ) -> None:
        self._self_id = self_id
        self._open_store = open_store
        self._disk = disk
        self._timing = timing
        self._sealer = sealer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="raft-disk")
        self._store: SnapshotStore | None = None
        self.floor = Floor()
        self.newest = 0
        self.wiped = False
        self.members: dict[str, str] = {}
        self.live: dict[int, Live] = {}
        self.old: dict[int, dict[str, str]] = {}

    @property
    def current(self) -> Live | None:
        """The group of the newest epoch, when this machine is a member of it."""
        return self.live.get(self.newest)

    @property
    def is_member(self) -> bool:
        """The newest epoch names this machine."""
        return self._self_id in self.members

    @property
    def has_left(self) -> bool:
        """It was a member and the newest epoch does not name it."""
        return not self.is_member and any(self._self_id in members for members in self.old.values())

    async def run(self, work: Callable[[], T]) -> T:
        """Do blocking ``work`` in the disk thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    @property
    def store(self) -> SnapshotStore:
        assert self._store is not None
        return self._store

    async def recover(self) -> Base | None:
        """Read what is on disk and run the newest group; None when there is no base.  Raises SwarmError."""
        self._store = await self.run(self._open_store)
        self.floor = await self.run(self.store.floor)
        epochs = await self.run(self.store.epochs)
        if not epochs:
            return None
        self.old = await self.run(lambda: _members_of(self.store, epochs[:-1]))
        base = await self.run(lambda: self.store.load(epochs[-1]))
        # A crash may have come between the base and its floor.
        await self.run(lambda: self.store.raise_floor(base))
        await self._begin(base)
        return base

    async def adopt(self, base: Base) -> None:
        """Make ``base`` durable and run its group.  Raises DiskFailed."""
        await self.run(lambda: self.store.save(base))
        if self.newest:
            self.old[self.newest] = self.members
        for epoch in [epoch for epoch in self.live if epoch < base.epoch - 1]:
            self.live.pop(epoch).wal.close()
        await self._begin(base)

    async def _begin(self, base: Base) -> None:
        self.floor = Floor(max(base.epoch, self.floor.epoch), base.members)
        if self._self_id in base.members:
            path = self.store.log_path(base.epoch)
            wal = await self.run(lambda: Wal(path, base.epoch, self._disk, self._sealer))
            engine = Engine(self._self_id, base.members, wal.state, self._timing)
            self.live[base.epoch] = Live(engine, wal)
        self.newest = base.epoch
        self.members = dict(base.members)

    async def persist(self) -> None:
        """Make durable whatever the groups changed.  Raises DiskFailed."""
        for live in list(self.live.values()):
            items = live.engine.take_items()
            if items:
                await self.run(lambda live=live, items=items: live.wal.commit(items))  # type: ignore[misc]

    def stop_old(self) -> None:
        """Run no group before the newest epoch any more."""
        for epoch in [epoch for epoch in self.live if epoch < self.newest]:
            self.live.pop(epoch).wal.close()

    async def forget_old(self) -> None:
        """Everything before the newest epoch is finished."""
        self.stop_old()
        self.old.clear()
        newest = self.newest
        await self.run(lambda: self.store.discard(logs_before=newest))

    async def wipe(self) -> None:
        """This machine has left and nobody needs it: keep the floor and whom to ask."""
        self.close_logs()
        self.wiped = True
        await self.run(lambda: self.store.save_floor(self.floor))
        await self.run(self.store.wipe)
        self.old.clear()

    def groups(self) -> list[Mapping[str, str]]:
        """The members of every epoch that matters still."""
        return [*self.old.values(), self.members]

    def close_logs(self) -> None:
        for live in self.live.values():
            live.wal.close()
        self.live.clear()

    def close(self) -> None:
        """Give files and the thread back, after what it does now."""
        self._thread.shutdown(wait=True)
        self.close_logs()


def _members_of(store: SnapshotStore, epochs: list[int]) -> dict[int, dict[str, str]]:
    """Who was in ``epochs``; one whose base is damaged is not needed any more and left out."""
    members: dict[int, dict[str, str]] = {}
    for epoch in epochs:
        try:
            members[epoch] = store.load(epoch).members
        except Corrupt as error:
            _log.warning("an old snapshot is ignored: %s", error)
    return members
