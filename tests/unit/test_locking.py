"""A manager's key ring follows the swarm's row: once for each version, never back to an older one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.daemon.locking import RETRY, Locking
from swarmd.kit.supervise import Nursery
from swarmd.model.errors import Unavailable
from swarmd.model.objects import Cluster
from swarmd.model.replace import replace
from swarmd.model.spec import ClusterSpec
from swarmd.security.vault import Vault
from tests.unit.agent_managers import eventually
from tests.unit.test_control_bed import Bed, settle

ONE, TWO = bytes([1]) * 32, bytes([2]) * 32
LOCKED = ClusterSpec(autolock=True)


class Rig(Bed):
    """A manager's store, its vault, and how often its own files were sealed anew."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.resealed = 0
        self.trouble: list[Unavailable] = []
        self.vault = Vault(directory / "vault")
        self.vault.create()
        self.locking = Locking(self.vault, self._reseal, self.clock)
        self.nursery = Nursery(lambda name, error: pytest.fail(f"{name}: {error!r}"))

    def _reseal(self) -> None:
        self.resealed += 1
        if self.trouble:
            raise self.trouble.pop()

    def row(self) -> Cluster:
        row = self.store.cluster()
        assert row is not None
        return row

    async def change(self, key: bytes) -> None:
        spec = LOCKED if key else ClusterSpec()
        row = self.store.cluster() or Cluster(id="c1")
        await self.put(replace(row, spec=spec, unlock_key=key))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    await made.nursery.close()


async def test_the_lock_is_turned_rotated_and_taken_back_as_the_row_says(rig: Rig) -> None:
    await rig.change(b"")
    rig.nursery.start("locking", rig.locking.run(rig.store))
    await settle()
    assert rig.resealed == 0, "nothing had to change"
    for count, key in enumerate((ONE, TWO, b"", TWO), 1):
        await rig.change(key)
        await eventually(lambda count=count: rig.resealed == count)  # type: ignore[misc]
        assert rig.vault.is_held(key)
    await rig.put(replace(rig.row(), worker_token="another"))
    await settle()
    assert rig.resealed == 4, "it is not about the lock"


async def test_rows_that_a_restart_reads_again_change_nothing(rig: Rig) -> None:
    rows = []
    for key in (b"", ONE, TWO):
        await rig.change(key)
        rows.append(rig.row())
        rig.locking.follow(rig.row())
    assert rig.vault.is_held(TWO)
    restarted = Vault(rig.vault._directory)
    restarted.unlock(TWO)
    again = Locking(restarted, lambda: pytest.fail("sealed anew"), rig.clock)
    for row in rows:
        again.follow(row)
        assert restarted.is_held(TWO)


async def test_a_worker_is_released_and_follows_again_when_it_is_promoted(rig: Rig) -> None:
    await rig.change(ONE)
    rig.locking.follow(rig.row())
    rig.locking.release()
    assert rig.vault.is_held(b"")
    rig.locking.release()
    assert rig.resealed == 2, "once for each change"
    rig.locking.follow(rig.row())
    assert rig.vault.is_held(ONE)


async def test_a_disk_that_does_not_take_it_is_a_problem_and_tried_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    rig.nursery.start("locking", rig.locking.run(rig.store))
    monkeypatch.setattr("swarmd.security.durable.os.fsync", full)
    await rig.change(ONE)
    await eventually(rig.locking.problems)
    (problem,) = rig.locking.problems()
    assert "autolock cannot be applied on this node" in problem
    assert "No space left" in problem
    assert rig.vault.is_held(b"")
    monkeypatch.undo()
    await asyncio.sleep(0)
    rig.clock.advance(RETRY)
    await eventually(lambda: rig.vault.is_held(ONE) and not rig.locking.problems())


async def test_files_that_could_not_be_sealed_anew_can_be_read_all_the_same(rig: Rig) -> None:
    piece = rig.vault.seal(b"here", b"own")
    await rig.change(ONE)
    rig.trouble.append(Unavailable("full"))
    with pytest.raises(Unavailable):
        rig.locking.follow(rig.row())
    assert rig.vault.is_held(ONE)
    assert rig.vault.open(b"here", piece) == b"own"


async def test_a_demotion_amid_a_change_of_the_key_leaves_the_worker_unlocked(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    rewrap = rig.vault.rewrap

    def slowly(key: bytes, *, followed: int) -> None:
        begun.set()
        assert go_on.wait(60)
        rewrap(key, followed=followed)

    monkeypatch.setattr(rig.vault, "rewrap", slowly)
    rig.nursery.start("locking", rig.locking.run(rig.store))
    await rig.change(ONE)
    await eventually(begun.is_set)
    monkeypatch.undo()
    async with asyncio.TaskGroup() as group:
        closing = group.create_task(rig.nursery.close())
        await settle()
        early = closing.done()
        go_on.set()
    assert not early, "the change that was begun is waited for"
    rig.locking.release()
    assert rig.vault.is_held(b"")
