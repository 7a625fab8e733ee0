"""Scheduled snapshots: when one is due, which go, and that the leader makes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from swarmd.control.core import backups
from swarmd.daemon.config import Backup
from swarmd.daemon.tools.backups import POLL, BackupFolder, Saving
from swarmd.kit.supervise import Nursery
from swarmd.model.errors import Unavailable
from swarmd.model.objects import Cluster
from swarmd.security import passphrase
from swarmd.security.keyring import unlock_key_text
from tests.unit.test_control_bed import ManualClock, eventually

NOW = 1_800_000_000.0
HOURS = 3600.0


def names(*ages: float, reason: str = backups.SCHEDULED) -> list[str]:
    return [backups.name_of(reason, NOW - age, n) for n, age in enumerate(ages)]


def test_the_first_is_due_at_once_and_the_next_after_the_interval() -> None:
    assert backups.wait([], now=NOW, interval=12 * HOURS) == 0
    assert backups.wait(names(20 * HOURS, 5 * HOURS), now=NOW, interval=12 * HOURS) == 7 * HOURS
    assert backups.wait(names(20 * HOURS), now=NOW, interval=12 * HOURS) == 0


def test_a_snapshot_before_a_recovery_or_a_stranger_s_file_does_not_put_it_off() -> None:
    others = [*names(1.0, reason=backups.BEFORE_RECOVERY), "swarm-mine.snapshot", "notes.txt"]
    assert backups.wait(others, now=NOW, interval=HOURS) == 0


def test_one_from_the_future_puts_the_next_off_by_no_more_than_the_interval() -> None:
    assert backups.wait(names(-900 * HOURS), now=NOW, interval=12 * HOURS) == 12 * HOURS


def test_the_newest_of_each_kind_stay_and_a_stranger_s_file_too() -> None:
    ours = names(5.0, 4.0, 3.0, 2.0)
    drastic = names(9.0, 8.0, reason=backups.BEFORE_RECOVERY)
    assert backups.surplus([*ours, *drastic, "mine.snapshot"], 2) == ours[:2]
    assert backups.surplus(drastic, 0) == drastic[:1], "one always stays"


class Rig:
    """A manager that leads or not."""

    def __init__(self, directory: Path, **settings: object) -> None:
        self.clock = ManualClock(NOW)
        self.folder = BackupFolder(directory, Backup(**settings))  # type: ignore[arg-type]
        self.leads, self.taken, self.unlock_key = True, 0, b""
        self.trouble: Exception | None = None
        self.saving = Saving(
            self.folder,
            take=self.take,
            store=cast("Any", self),
            is_leader=lambda: self.leads,
            clock=self.clock,
        )
        self.nursery = Nursery(lambda name, error: None)
        self.nursery.start("saving", self.saving.run())

    @property
    def index(self) -> int:
        return self.taken

    def cluster(self) -> Cluster:
        return Cluster(id="c1", unlock_key=self.unlock_key)

    async def take(self) -> bytes:
        if self.trouble is not None:
            raise self.trouble
        self.taken += 1
        return b"snapshot %d" % self.taken

    async def until_taken(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.folder.names()) < count or self.taken < count:  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def pass_time(self, seconds: float) -> None:
        """Minute by minute, as the loop looks."""
        for _ in range(int(seconds / POLL) + 1):
            before = len(self.clock._sleepers)
            self.clock.advance(POLL)
            async with asyncio.timeout(60):
                while len(self.clock._sleepers) < max(before, 1):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)


@pytest.fixture
async def rigs(tmp_path: Path) -> AsyncIterator[list[Rig]]:
    made: list[Rig] = []
    yield made
    for rig in made:
        await rig.nursery.close()


async def test_the_leader_saves_on_time_and_keeps_the_newest(tmp_path: Path, rigs: list[Rig]) -> None:
    rig = Rig(tmp_path, interval_hours=1.0, keep=2)
    rigs.append(rig)
    await rig.until_taken(1)
    for count in (2, 3):
        await rig.pass_time(HOURS)
        assert rig.taken == count
    kept = sorted((tmp_path / "backups").iterdir())
    assert [path.read_bytes() for path in kept] == [b"snapshot 2", b"snapshot 3"]
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    assert (tmp_path / "backups").stat().st_mode & 0o777 == 0o700


async def test_who_does_not_lead_saves_nothing_until_it_does(tmp_path: Path, rigs: list[Rig]) -> None:
    rig = Rig(tmp_path)
    rigs.append(rig)
    rig.leads = False
    await rig.pass_time(13 * HOURS)
    assert (rig.taken, rig.folder.names()) == (0, [])
    rig.leads = True
    await rig.pass_time(POLL)
    await rig.until_taken(1)


async def test_an_interval_of_zero_means_never(tmp_path: Path, rigs: list[Rig]) -> None:
    rig = Rig(tmp_path, interval_hours=0.0)
    rigs.append(rig)
    await eventually(lambda: not rig.nursery._tasks)
    assert rig.taken == 0


async def test_a_snapshot_that_cannot_be_saved_is_a_warning_until_one_is(
    tmp_path: Path, rigs: list[Rig]
) -> None:
    rig = Rig(tmp_path)
    rigs.append(rig)
    rig.trouble = Unavailable("no quorum")
    await rig.pass_time(POLL)
    assert "no quorum" in rig.saving.problem
    rig.trouble = None
    await rig.pass_time(POLL)
    await rig.until_taken(1)
    await eventually(lambda: rig.saving.problem == "")


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words"
    path.write_bytes(b"correct horse\n")
    return path


def test_with_a_passphrase_file_snapshots_are_sealed(tmp_path: Path, words: Path) -> None:
    folder = BackupFolder(tmp_path, Backup(passphrase_file=str(words)))
    path = folder.write(b"everything", reason=backups.SCHEDULED, now=NOW, index=3)
    assert b"everything" not in path.read_bytes()
    assert passphrase.unseal(path.read_bytes(), b"correct horse", "f") == b"everything"


async def test_a_locked_swarm_s_snapshots_open_with_its_unlock_key(tmp_path: Path, rigs: list[Rig]) -> None:
    rig = Rig(tmp_path)
    rigs.append(rig)
    rig.unlock_key = b"k" * 32
    await rig.until_taken(1)
    (path,) = (tmp_path / "backups").iterdir()
    assert path.read_bytes() != b"snapshot 1"
    key = unlock_key_text(rig.unlock_key).encode()
    assert passphrase.unseal(path.read_bytes(), key, "f") == b"snapshot 1"
