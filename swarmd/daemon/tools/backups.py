"""The snapshots that a manager keeps below ``<data dir>/backups``: made on time, and before anything drastic.

leading, and one is due ──► snapshot ──► sealed, if there is a passphrase ──► file ──► old ones go
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from swarmd.control.core import backups
from swarmd.daemon.config import Backup
from swarmd.kit.clock import Clock
from swarmd.model.errors import Invalid, SwarmError, Unavailable
from swarmd.security import passphrase
from swarmd.security.durable import write_durably
from swarmd.security.keyring import unlock_key_text
from swarmd.store.store import Store

POLL = 60.0
"""Seconds between looks at whether one is due, and between attempts that failed."""


class BackupFolder:
    """``<data dir>/backups``, for root only.  Blocking."""

    def __init__(self, data: Path, settings: Backup) -> None:
        self.settings = settings
        self.directory = data / "backups"

    def names(self) -> list[str]:
        """What lies there."""
        return [path.name for path in self.directory.glob("*.snapshot")]

    def write(self, snapshot: bytes, *, reason: str, now: float, index: int, unlock_key: bytes = b"") -> Path:
        """Keep a snapshot file; old ones of its kind go.  Raises Unavailable, Invalid.

        A swarm whose managers are locked keeps none in the clear: its ``unlock_key`` is the passphrase, as
        the operators know it, where no other is set.
        """
        data = self._sealed(snapshot, unlock_key)
        path = self.directory / backups.name_of(reason, now, index)
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(path, data)
            for name in backups.surplus(self.names(), self.settings.keep):
                (self.directory / name).unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"{self.directory} cannot be written: {error.strerror}") from error
        return path

    def _sealed(self, snapshot: bytes, unlock_key: bytes) -> bytes:
        if self.settings.passphrase_file:
            return passphrase.seal(snapshot, first_line(Path(self.settings.passphrase_file), "passphrase"))
        if unlock_key:
            return passphrase.seal(snapshot, unlock_key_text(unlock_key).encode())
        return snapshot


def first_line(path: Path, what: str) -> bytes:
    """The first line of a file, which is a ``what``.  Raises Invalid."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise Invalid(f"the file {path} with the {what} cannot be read: {error.strerror}") from error
    if not lines or not lines[0]:
        raise Invalid(f"the file {path} is empty: its first line is the {what}")
    return lines[0]


class Saving:
    """Makes the scheduled snapshots while this manager leads."""

    def __init__(
        self,
        folder: BackupFolder,
        *,
        take: Callable[[], Awaitable[bytes]],
        store: Store,
        is_leader: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._folder = folder
        self._take = take
        self._store = store
        self._is_leader = is_leader
        self._clock = clock
        self._log = structlog.get_logger()
        self.problem = ""

    async def run(self) -> None:
        """Until cancelled."""
        interval = self._folder.settings.interval_hours * 3600.0
        if not interval:
            return
        while True:
            left = 0.0
            if self._is_leader():
                names = await asyncio.to_thread(self._folder.names)
                left = backups.wait(names, now=self._clock.now(), interval=interval)
                if not left:
                    await self._save()
            await self._clock.sleep(min(left, POLL) or POLL)

    async def _save(self) -> None:
        try:
            snapshot, index, now = await self._take(), self._store.index, self._clock.now()
            cluster = self._store.cluster()
            unlock_key = cluster.unlock_key if cluster is not None else b""
            path = await asyncio.to_thread(
                lambda: self._folder.write(
                    snapshot, reason=backups.SCHEDULED, now=now, index=index, unlock_key=unlock_key
                )
            )
        except SwarmError as error:
            if self._is_leader():
                self.problem = f"the swarm's scheduled snapshot could not be saved: {error}"
                self._log.warning("snapshot_not_saved", reason=str(error))
            return
        self.problem = ""
        self._log.info("snapshot_saved", path=str(path), bytes=len(snapshot))
