"""Images leave a part of the disk free: first what nobody needs goes, then nothing comes any more."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from swarmd.image.core.config import ImageConfig, write_config
from swarmd.image.room import RESERVE_BYTES, Room
from swarmd.image.store import ImageStore
from swarmd.image.streams import DiskFull
from swarmd.image.trash import Trash
from swarmd.model.errors import Unavailable
from tests.unit.test_control_bed import ManualClock

MIB = 1 << 20
DAY = 86400.0
CONFIG = write_config(ImageConfig(), diff_ids=(), created=0.0, arch="amd64")


class FileSystem:
    """Of ``total`` bytes, of which ``used`` are somebody else's and the rest what lies below ``root``."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, total: int) -> None:
        self.root = root
        self.total = total
        self.used = 0
        monkeypatch.setattr("swarmd.image.room.os.statvfs", self.statvfs)

    def statvfs(self, path: Path) -> SimpleNamespace:
        files = (Path(top, name) for top, _, names in os.walk(self.root) for name in names)
        here = sum(os.lstat(file).st_size for file in files)
        free = self.total - self.used - here
        return SimpleNamespace(f_bavail=free // 4096, f_frsize=4096, f_blocks=self.total // 4096)


class Freeing:
    def __init__(self, disk: FileSystem, *sizes: int) -> None:
        self.disk = disk
        self.sizes = list(sizes)
        self.turns = 0

    async def __call__(self) -> None:
        self.turns += 1
        await asyncio.sleep(0)
        self.disk.used -= self.sizes.pop(0) if self.sizes else 0


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileSystem:
    return FileSystem(tmp_path, monkeypatch, 100 * MIB)


async def test_with_enough_room_nothing_is_freed(disk: FileSystem) -> None:
    room, free = Room(disk.root, 10 * MIB, ManualClock()), Freeing(disk)
    room.frees.append(free)
    disk.used = 90 * MIB
    await room.make()
    assert free.turns == 0


async def test_first_what_can_go_goes_in_turn_until_there_is_room(disk: FileSystem) -> None:
    room = Room(disk.root, 10 * MIB, ManualClock())
    first, second, third = Freeing(disk, MIB), Freeing(disk, 5 * MIB), Freeing(disk, MIB)
    room.frees += [first, second, third]
    disk.used = 94 * MIB
    await room.make()
    assert (first.turns, second.turns, third.turns) == (1, 1, 0)


async def test_what_does_not_fit_is_refused_in_words_and_not_freed_for_at_each_attempt(
    disk: FileSystem,
) -> None:
    clock = ManualClock()
    room, free = Room(disk.root, 10 * MIB, clock), Freeing(disk)
    room.frees.append(free)
    disk.used = 93 * MIB
    refused = await asyncio.gather(*(room.make() for _ in range(3)), return_exceptions=True)
    assert {type(one) for one in refused} == {DiskFull}
    said = f"{disk.root} has 7 MiB of free space left, and 10 MiB are kept free. Remove images"
    assert str(refused[0]).startswith(f"no room for images: {said}")
    assert free.turns == 1
    clock.advance(11)
    free.sizes = [4 * MIB]
    await room.make()
    assert free.turns == 2


async def test_the_reserve_is_a_tenth_of_a_small_disk_and_can_be_none(disk: FileSystem) -> None:
    disk.used = 91 * MIB
    with pytest.raises(Unavailable, match="10 MiB are kept free"):
        await Room(disk.root, None, ManualClock()).make()
    await Room(disk.root, 0, ManualClock()).make()
    disk.total, disk.used = 1 << 40, (1 << 40) - RESERVE_BYTES + MIB
    with pytest.raises(Unavailable, match="512 MiB are kept free"):
        await Room(disk.root, None, ManualClock()).make()


async def test_contents_that_nothing_needs_make_room_for_others(disk: FileSystem) -> None:
    clock = ManualClock()
    store = ImageStore(disk.root / "images", clock, reserve=10 * MIB)
    await store.open()
    kept = await store.compose(CONFIG, (), ("a:1",))
    left = await store.content.put(bytes(3 * MIB))
    disk.used = 89 * MIB
    with pytest.raises(Unavailable, match="no room for images"):
        await store.content.ingest()
    assert store.content.has(left), "it came a moment ago, and something may need it yet"
    clock.advance(DAY)
    ingest = await store.content.ingest()
    await ingest.write(b"new")
    await ingest.commit()
    assert not store.content.has(left)
    assert store.resolve("a:1") == kept
    await store.close()


async def test_a_full_disk_takes_nothing_new_and_lets_go_of_what_is_there(disk: FileSystem) -> None:
    store = ImageStore(disk.root / "images", ManualClock(), reserve=10 * MIB)
    await store.open()
    await store.compose(CONFIG, (), ("a:1",))
    archive = io.BytesIO()
    tarfile.open(fileobj=archive, mode="w").close()
    (disk.root / "upper").mkdir()
    disk.used = 95 * MIB
    for attempt in (
        store.load(io.BytesIO(archive.getvalue())),
        store.import_rootfs(io.BytesIO(archive.getvalue()), "b:1"),
        store.pack(disk.root / "upper"),
        store.content.ingest(),
    ):
        with pytest.raises(Unavailable, match="no room for images"):
            await attempt
    await store.remove("a:1", in_use=lambda digest: ())
    assert store.list() == []
    await store.close()


def test_what_is_removed_at_leisure_is_gone_when_somebody_needs_the_room(tmp_path: Path) -> None:
    trash = Trash(tmp_path / "trash")
    trash.open()
    victim = tmp_path / "victim"
    victim.mkdir()
    for number in range(3000):
        (victim / str(number)).touch()
    trash.collect(trash.bury(victim))
    trash.finish()
    assert list((tmp_path / "trash").iterdir()) == []
    trash.finish()
    trash.close()


class Resting(deque[Iterator[None]]):
    """Somebody is told, and is given a moment, whenever who removes finds that nothing is left."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing_left, self.more_came = threading.Event(), threading.Event()

    def __bool__(self) -> bool:
        if len(self):
            return True
        self.nothing_left.set()
        self.more_came.wait(0.3)
        return False


def test_what_comes_while_who_removes_goes_to_rest_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarmd.image.trash._AT_ONCE", 0)
    trash = Trash(tmp_path / "trash")
    trash.open()
    trash._later = later = Resting()
    for name in ("first", "second"):
        (tmp_path / name).touch()
    trash.collect(trash.bury(tmp_path / "first"))
    assert later.nothing_left.wait(60)
    trash.collect(trash.bury(tmp_path / "second"))
    later.more_came.set()
    trash.finish()
    assert list((tmp_path / "trash").iterdir()) == []
    trash.close()
