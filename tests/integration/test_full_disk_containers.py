"""Containers on a disk that is really full: told in words, nothing left behind, well again with room.

The disk is a small ext4 on a loop device, where the node keeps its data.  What runs is noted elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import msgspec
import pytest

from swarmd.image.store import ImageStore
from swarmd.kit.clock import SystemClock
from swarmd.kit.ids import new_id
from swarmd.kit.supervise import Nursery
from swarmd.model.errors import SwarmError, Unavailable
from swarmd.model.spec import ContainerSpec, MountSpec
from swarmd.node.agent.core.container import NodeFacts
from swarmd.node.agent.taskdb import TaskDatabase
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.solo.core.record import Record
from swarmd.node.solo.keeper import Keeper
from swarmd.node.solo.maker import Maker
from swarmd.node.solo.shelf import Shelf
from swarmd.node.volume.volumes import Volumes, mounted_by
from tests.integration.build_rig import tar_of
from tests.integration.image_rig import entry, pack
from tests.integration.runtime_rig import Rig, failed, running, until_line
from tests.nemesis.disks import SmallDisk
from tests.unit.test_agent_store import RECORD

pytestmark = pytest.mark.root

MIB = 1 << 20
NOISE = os.urandom(3 * MIB)
HELLO = "echo hello >/hello && cat /hello; exec sleep 1000"
STEPS = [*range(23), 24, 28, 32, 40]
"""Blocks that are left.  A container takes more, and each of them is wanted for something else."""


class Full:
    """A node whose disk can be filled, with the image ``busybox``."""

    def __init__(self, rig: Rig, disk: SmallDisk, runtime: LocalRuntime, images: ImageStore) -> None:
        self.rig = rig
        self.disk = disk
        self.runtime = runtime
        self.images = images
        self.nursery = Nursery(failed)
        shelf = Shelf(rig.data)
        self.volumes = Volumes(rig.data / "volumes", SystemClock(), new_id, lambda: mounted_by(runtime))
        maker = Maker(
            runtime, images, self.volumes, lambda: None,
            lambda: NodeFacts(node_id="", hostname="full", resolv_conf="nameserver 192.0.2.1\n"),
            self._everything, shelf.rewrite,
        )  # fmt: skip
        self.keeper = Keeper(runtime, maker, shelf, SystemClock(), self.nursery)

    async def _everything(self, ref: str, digest: str) -> None:
        """There are no rules."""

    async def run(self, script: str, *mounts: MountSpec, name: str = "box") -> str:
        record = Record(
            id=new_id(), name=name, image="busybox", digest=self.images.resolve("busybox").digest,
            spec=ContainerSpec(args=("sh", "-c", script), stop_grace=0.1, mounts=mounts), network="none",
        )  # fmt: skip
        await self.keeper.create(record)
        await self.keeper.start(record.id)
        return record.id

    def found(self) -> set[str]:
        """All that containers and volumes have on the disk."""
        names = (path.relative_to(self.rig.data) for path in self.rig.data.rglob("*"))
        return {str(name) for name in names if name.parts[0] in ("containers", "solo", "volumes")}


@contextlib.asynccontextmanager
async def nearly_full(tmp_path: Path) -> AsyncIterator[Full]:
    rig = Rig(tmp_path)
    for directory in (rig.data, rig.run):
        directory.mkdir()
    disk = SmallDisk(rig.data, tmp_path / "ext4")
    disk.install()
    try:
        async with running(rig) as runtime:
            images = ImageStore(rig.data / "images", SystemClock(), reserve=0)
            await images.open()
            await images.import_rootfs(io.BytesIO(tar_of(rig.image)), "busybox", ('CMD ["sh"]',))
            await images.prepare("busybox")
            full = Full(rig, disk, runtime, images)
            await full.volumes.open()
            full.keeper.open()
            try:
                yield full
            finally:
                await full.nursery.close()
                await images.close()
    finally:
        disk.free()
        disk.remove()


async def one_file(name: str) -> AsyncIterator[bytes]:
    """A tar."""
    yield pack(entry(name, NOISE))


async def failure_of(work: Awaitable[object]) -> SwarmError | None:
    try:
        await work
    except SwarmError as error:
        return error
    return None


async def refused(work: Awaitable[object]) -> str:
    with pytest.raises(SwarmError) as caught:
        await work
    assert "Errno" not in str(caught.value)
    return str(caught.value)


async def test_a_container_for_which_there_is_no_room_is_told_in_words_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    async with nearly_full(tmp_path) as full:
        before = full.found()
        refusals = 0
        for blocks in STEPS:
            full.disk.fill(leave=blocks * 4096)
            error = await failure_of(full.run(HELLO, MountSpec(target="/v", kind="volume")))
            full.disk.free()
            if error is None:
                (made,) = full.keeper.all()
                await until_line(full.runtime, made.id, "hello")
                await full.keeper.remove(made.id, force=True, volumes=True)
                continue
            refusals += 1
            assert isinstance(error, Unavailable)
            assert "o space left" in str(error)
            assert "Errno" not in str(error)
            assert "free some (swarmctl " in str(error)
            assert full.found() == before
            assert not full.runtime.list()
            assert not full.keeper.all()
        assert 10 < refusals < len(STEPS)
        assert full.found() == before


async def test_what_runs_when_the_disk_gets_full_is_stopped_and_removed(tmp_path: Path) -> None:
    async with nearly_full(tmp_path) as full:
        before = full.found()
        first, second = [await full.run("exec sleep 1000", name=name) for name in ("first", "second")]
        full.disk.fill()
        await full.keeper.stop(first, grace=0.0)
        assert full.keeper.find("first").by_user
        for container in (first, second):
            await full.keeper.remove(container, force=True, volumes=True)
        assert full.found() == before


async def test_a_volume_for_which_there_is_no_room(tmp_path: Path) -> None:
    async with nearly_full(tmp_path) as full:
        before = full.found()
        for blocks in range(3):
            full.disk.fill(leave=blocks * 4096)
            said = await refused(full.volumes.create("one", {}))
            assert said.startswith(f"no space left for volumes in {full.rig.data / 'volumes'}: ")
            assert full.found() == before
            full.disk.free()
        await full.volumes.create("one", {})


async def test_what_is_copied_into_a_container_that_has_no_room(tmp_path: Path) -> None:
    async with nearly_full(tmp_path) as full:
        made = await full.run("echo ready; exec sleep 1000")
        await until_line(full.runtime, made, "ready")
        for runs in (True, False):
            if not runs:
                await full.keeper.stop(made, grace=0.0)
            for left in (0, MIB):
                full.disk.fill(leave=left)
                before = full.found()
                said = await refused(full.runtime.archives.write(made, "/tmp", one_file(f"big{runs}")))
                assert said.startswith("no space left for what is copied to /tmp in container ")
                assert full.found() - before <= {f"solo/{made}/upper/tmp"}, "half a file takes room"
                full.disk.free()
            await full.runtime.archives.write(made, "/tmp", one_file(f"big{runs}"))


async def test_a_task_that_cannot_be_noted_says_so_in_words(tmp_path: Path) -> None:
    async with nearly_full(tmp_path) as full:
        database = TaskDatabase(full.rig.data / "tasks.db")
        await database.open()
        full.disk.fill()
        error = None
        while error is None:  # the database has a little room of its own
            error = await failure_of(database.put(msgspec.structs.replace(RECORD, task_id=new_id())))
        assert str(error).startswith(f"no space left for tasks in {full.rig.data}: ")
        await database.close()
