"""The epochs this machine holds: the newest base, running groups and their logs, and when each may go.

The order of durability lives here.  An epoch begins by a roll: its log with the marker in it, later the base
and the floor; or by a base from elsewhere: the base, the floor, then the log.  Only then may its group speak.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from swarmd.security.sealing import PLAIN, Sealer
from swarmd.store.raft.engine import Engine
from swarmd.store.raft.files import Disk
from swarmd.store.raft.logcopy import LogCopy
from swarmd.store.raft.port import StateView
from swarmd.store.raft.records import Marker
from swarmd.store.raft.recovery import Trail, read_trail
from swarmd.store.raft.snapshots import Base, Floor, SnapshotStore
from swarmd.store.raft.timing import Timing
from swarmd.store.raft.wal import Wal

T = TypeVar("T")
_BREATH = 0.0005


class Live:
    """A running group: its engine, its log, and whether its seal was applied here."""

    def __init__(self, engine: Engine, wal: Wal) -> None:
        self.engine = engine
        self.wal = wal
        self.sealed = False


class Abandoned(Exception):
    """A base is not needed any more."""


class Held:
    """What ``store`` holds, and the groups that run from it.

    Logs are written in one thread, bases in another: a log must not wait for a base.  ``base_epoch`` is the
    newest epoch whose base is on disk; ``newest`` may be some rolls ahead of it.
    """

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
        self._base_thread = ThreadPoolExecutor(1, thread_name_prefix="raft-base")
        self._stop_writing = threading.Event()
        self._store: SnapshotStore | None = None
        self.floor = Floor()
        self.newest = 0
        self.base_epoch = 0
        self.wiped = False
        self.members: dict[str, str] = {}
        self.live: dict[int, Live] = {}
        self.copy: LogCopy | None = None
        self.old: dict[int, dict[str, str]] = {}

    @property
    def current(self) -> Live | None:
        """The group of the newest epoch, when this machine is a member of it."""
        return self.live.get(self.newest)

    @property
    def position(self) -> int:
        """How many entries of the newest epoch are applied here, the implicit first one counted; else 0."""
        if self.current is not None:
            return self.current.engine.applied
        return self.copy.applied if self.copy is not None else 0

    @property
    def is_member(self) -> bool:
        """The newest epoch names this machine."""
        return self._self_id in self.members

    @property
    def has_left(self) -> bool:
        """It was a member and the newest epoch does not name it."""
        return not self.is_member and any(self._self_id in members for members in self.old.values())

    async def run(self, work: Callable[[], T]) -> T:
        """Do blocking ``work`` in the thread of the logs."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def run_base(self, work: Callable[[], T]) -> T:
        """Do blocking ``work`` in the thread of the bases, behind what is being written there."""
        return await asyncio.get_running_loop().run_in_executor(self._base_thread, work)

    @property
    def store(self) -> SnapshotStore:
        assert self._store is not None
        return self._store

    async def recover(self) -> Trail | None:
        """Read what is on disk and run the newest group; None when there is no base.  Raises SwarmError."""
        self._store = await self.run(self._open_store)
        self.floor = await self.run(self.store.floor)
        if self.floor.left:
            # A crash may have come before everything was gone.
            await self.run(lambda: self.store.wipe(self.floor))
            return None
        trail = await self.run(lambda: read_trail(self.store))
        if trail is None:
            return None
        self.old = trail.old
        self.base_epoch = trail.base.epoch
        # A crash may have come between the beginning of an epoch and its floor.
        await self.run(lambda: self.store.raise_floor(Floor(trail.epoch, trail.members)))
        await self._begin(trail.epoch, trail.members, None)
        return trail

    async def adopt(self, base: Base) -> None:
        """Make ``base``, which was not come to by a roll, durable and run its group.  Raises DiskFailed."""
        self._stop_writing.set()
        await self.run_base(lambda: self.store.save(base))
        self._stop_writing.clear()
        self.base_epoch = base.epoch
        await self._turn_over(base.epoch, base.members, None)

    async def roll(self, marker: Marker) -> None:
        """Make ``marker`` durable and run its group; its base is owed.  Raises DiskFailed."""
        await self._turn_over(marker.epoch, marker.members, marker)

    async def _turn_over(self, epoch: int, members: Mapping[str, str], marker: Marker | None) -> None:
        if self.newest:
            self.old[self.newest] = self.members
        for number in [number for number in self.live if number < epoch - 1]:
            self.live.pop(number).wal.close()
        await self._begin(epoch, members, marker)

    async def _begin(self, epoch: int, members: Mapping[str, str], marker: Marker | None) -> None:
        self.floor = Floor(max(epoch, self.floor.epoch), dict(members))
        path = self.store.log_path(epoch)
        wal = await self.run(lambda: Wal(path, epoch, self._disk, self._sealer, marker))
        self._close_copy()
        if self._self_id in members:
            self.live[epoch] = Live(Engine(self._self_id, members, wal.state, self._timing), wal)
        else:
            self.copy = LogCopy(epoch, wal)
        self.newest = epoch
        self.members = dict(members)

    async def write_base(self, marker: Marker, view: StateView) -> None:
        """Make the base of ``marker``, its state in ``view``, durable.  Raises DiskFailed, Abandoned."""

        def write() -> None:
            state = self._gather(view)
            self.store.save(Base(marker.epoch, marker.members, marker.applied, marker.sessions, state))

        await self.run_base(write)
        self.base_epoch = max(self.base_epoch, marker.epoch)

    def _gather(self, view: StateView) -> bytes:
        """The bytes of ``view``; between its pieces the interpreter is the event loop's."""
        pieces: list[bytes] = []
        for piece in view():
            if self._stop_writing.wait(_BREATH if pieces else 0.0):
                raise Abandoned
            pieces.append(piece)
        return b"".join(pieces)

    async def persist(self) -> None:
        """Make durable whatever the groups changed.  Raises DiskFailed."""
        for live in list(self.live.values()):
            items = live.engine.take_items()
            if items:
                await self.run(lambda live=live, items=items: live.wal.commit(items))  # type: ignore[misc]
        copy = self.copy
        if copy is not None and (items := copy.take_items()):
            await self.run(lambda: copy.wal.commit(items))
            copy.synced(items)

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
        self.base_epoch = 0
        self._stop_writing.set()
        await self.run_base(lambda: self.store.wipe(self.floor))
        self.old.clear()

    async def free(self) -> tuple[int, int]:
        """(free, all) bytes where all this is kept.  Raises OSError."""
        return await self.run(lambda: self._disk.free(self.store.directory))

    def groups(self) -> list[Mapping[str, str]]:
        """The members of every epoch that matters still."""
        return [*self.old.values(), self.members]

    def close_logs(self) -> None:
        for live in self.live.values():
            live.wal.close()
        self.live.clear()
        self._close_copy()

    def _close_copy(self) -> None:
        if self.copy is not None:
            self.copy.wal.close()
            self.copy = None

    def close(self) -> None:
        """Give files and threads back, after what they do now."""
        self._stop_writing.set()
        self._base_thread.shutdown(wait=True)
        self._thread.shutdown(wait=True)
        self.close_logs()
