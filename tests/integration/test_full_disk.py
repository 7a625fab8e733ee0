"""Images on a disk that is really full: told in words, nothing lost, and all of it works when there is room.

The disk is a small ext4 on a loop device.
"""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from swarmd.image.registry.client import RegistryClient
from swarmd.image.registry.core import documents
from swarmd.image.registry.core.names import Settings
from swarmd.image.registry.exchange import Reply, Request
from swarmd.image.registry.intake import Uploads
from swarmd.image.registry.links import Links
from swarmd.image.registry.memory_names import MemoryNames
from swarmd.image.registry.server import Registry
from swarmd.kit.clock import SystemClock
from swarmd.kit.ids import new_id
from swarmd.model.errors import NotFound, SwarmError
from swarmd.model.spec import ContainerSpec
from swarmd.node.agent.taskdb import TaskDatabase
from swarmd.node.containers.commit import Committer, Wanted
from swarmd.node.runtime.port import ContainerConfig
from tests.integration.build_rig import BuildRig, building, make_files
from tests.integration.image_rig import archive, configuration, entry, pack
from tests.integration.runtime_rig import start, until_line
from tests.nemesis.disks import SmallDisk
from tests.unit.registry_rig import header, image_manifest, sha256
from tests.unit.scripted_registry import Answer, Asked, Holding, ScriptedRegistry, registry
from tests.unit.test_agent_store import RECORD

pytestmark = pytest.mark.root

MIB = 1 << 20
FULL = "no space left for images in"
NOISE = os.urandom(6 * MIB)
LAYER = pack(entry("big", NOISE))
COPIED = "FROM busybox\nCOPY big /big"
FOLDED = pack(entry("big", bytes(12 * MIB)))


class Full:
    """A node whose disk can be filled, beside a registry that has ``app:1``."""

    def __init__(self, rig: BuildRig, disk: SmallDisk, there: ScriptedRegistry, holding: Holding) -> None:
        self.rig = rig
        self.disk = disk
        self.there = there
        self.holding = holding
        self.store = rig.store
        self.client = RegistryClient(
            rig.store, Settings(), SystemClock(), who=self._nobody, fraction=lambda: 0.5
        )
        content = rig.store.content
        self.uploads = Uploads(content, SystemClock(), new_id)
        self.registry = Registry(MemoryNames(), content, self.uploads, Links(content, SystemClock()))
        self.made_of: dict[str, tuple[str, ContainerSpec]] = {}
        self.committer = Committer(
            rig.runtime, rig.runtime.archives, rig.store, SystemClock(), work=rig.base / "data" / "commits",
            asked=self.made_of.get, changed=lambda: None,
        )  # fmt: skip

    async def _nobody(self, host: str) -> None:
        return None

    def publish(self, layer: bytes) -> str:
        """``app:1`` in the registry; answers the digest of its layer's blob."""
        config, blob = configuration(layer), gzip.compress(layer, 1, mtime=0)
        self.holding.blobs |= {sha256(each): each for each in (config, blob)}
        self.holding.manifests["1"] = (documents.OCI_MANIFEST, image_manifest(config, blob))
        return sha256(blob)

    async def pull(self) -> None:
        await self.client.pull(f"{self.there.host}/app:1", progress=lambda *told: None)

    async def load(self, layer: bytes, then: Callable[[], None] = lambda: None) -> None:
        await self.store.load(pieces(archive("loaded:1", layer), then))

    async def push(self, data: bytes, then: Callable[[], None] = lambda: None) -> Reply:
        return await self.ask("POST", "uploads/", data, then, (("digest", sha256(data)),))

    async def ask(
        self, method: str, path: str, data: bytes = b"", then: Callable[[], None] = lambda: None,
        query: tuple[tuple[str, str], ...] = (),
    ) -> Reply:  # fmt: skip
        return await self.registry.handle(
            Request(
                method=method, path=f"/v2/app/blobs/{path}", query=query, headers={}, length=len(data),
                body=lambda: pieces(data, then),
            )
        )  # fmt: skip

    async def runs(self, script: str) -> ContainerConfig:
        """A container of the image busybox."""
        rootfs = await self.store.prepare("busybox")
        config = ContainerConfig(
            id=new_id(), args=("sh", "-c", script), lower_dirs=rootfs.layers, env=("PATH=/bin",)
        )
        self.made_of[config.id] = (rootfs.digest, ContainerSpec(image="busybox"))
        await start(self.rig.runtime, config)
        return config

    def is_running(self, config: ContainerConfig) -> bool:
        state = self.rig.runtime.inspect(config.id)
        return state is not None and state.status == "running"

    def free(self) -> int:
        """Bytes."""
        seen = os.statvfs(self.rig.base)
        return seen.f_bavail * seen.f_frsize

    def files(self) -> set[str]:
        """All that images and builds have on the disk, but their databases."""
        data = self.rig.base / "data"
        tops = [data / name for name in ("images", "build", "commits")]
        found = (Path(at, name) for top in tops for at, _, names in os.walk(top) for name in names)
        names = {str(path.relative_to(data)) for path in found}
        return {name for name in names if ".db" not in name and not name.endswith("spare")}

    def layers(self) -> set[str]:
        """The files of images alone."""
        return {name for name in self.files() if name.startswith("images/")}


async def pieces(data: bytes, then: Callable[[], None]) -> AsyncIterator[bytes]:
    """In the middle of them ``then`` happens."""
    view = memoryview(data)
    for at in range(0, len(view), MIB):
        if at == 2 * MIB:
            then()
        yield bytes(view[at : at + MIB])


@contextlib.asynccontextmanager
async def nearly_full(tmp_path: Path, reserve: int = 0) -> AsyncIterator[Full]:
    base = tmp_path / "disk"
    base.mkdir()
    disk = SmallDisk(base, tmp_path / "ext4")
    disk.install()
    try:
        async with building(base, reserve=reserve) as rig, registry(holding := Holding()) as there:
            full = Full(rig, disk, there, holding)
            await full.store.prepare("busybox")
            yield full
            await full.client.close()
    finally:
        disk.free()
        disk.remove()


async def refused(work: Awaitable[object]) -> str:
    with pytest.raises(SwarmError) as caught:
        await work
    assert "Errno" not in str(caught.value)
    return str(caught.value)


async def test_what_comes_from_a_registry_when_the_disk_gets_full(tmp_path: Path) -> None:
    async with nearly_full(tmp_path) as full:
        there = await full.runs("exec sleep 1000")
        before = full.files()
        blob = full.publish(LAYER)

        def fills(asked: Asked) -> Answer:
            if asked.path.endswith(blob):
                full.disk.fill(leave=2 * MIB)
            return full.holding(asked)

        full.there.behave = fills
        assert FULL in await refused(full.pull())
        assert full.files() == before, "what came of it takes room"
        assert full.free() > MIB
        assert full.is_running(there)
        with pytest.raises(NotFound):
            full.store.resolve(f"{full.there.host}/app:1")
        full.disk.free()
        full.there.behave = full.holding
        await full.pull()


async def test_a_layer_that_came_and_has_no_room_to_unpack(tmp_path: Path) -> None:
    async with nearly_full(tmp_path) as full:
        before = full.files()
        full.publish(FOLDED)
        full.disk.fill(leave=2 * MIB)
        assert FULL in await refused(full.pull())
        assert full.files() == before, "what came of it takes room"
        full.disk.free()
        await full.pull()


async def test_an_archive_when_the_disk_gets_full(tmp_path: Path) -> None:
    async with nearly_full(tmp_path) as full:
        before = full.files()
        assert FULL in await refused(full.load(LAYER, lambda: full.disk.fill(leave=2 * MIB)))
        assert full.files() == before
        full.disk.fill()
        assert FULL in await refused(full.load(LAYER))
        assert full.files() == before
        full.disk.free()
        await full.load(LAYER)
        assert full.store.resolve("loaded:1").refs == ("loaded:1",)


async def test_an_upload_when_the_disk_gets_full(tmp_path: Path) -> None:
    async with nearly_full(tmp_path) as full:
        before = full.files()
        begun = await full.ask("POST", "uploads/")
        path = f"uploads/{header(begun, 'Docker-Upload-UUID')}"
        reply = await full.ask("PATCH", path, NOISE, lambda: full.disk.fill(leave=MIB))
        assert (reply.status, FULL in reply.body.decode()) == (503, True)
        assert full.files() == before, "what came of it takes room"
        assert (await full.ask("GET", path)).status == 404
        full.disk.fill()
        assert (await full.push(NOISE)).status == (await full.push(b"x")).status == 503
        full.disk.free()
        assert (await full.push(NOISE)).status == 201


@pytest.mark.parametrize("left", [0, 2 * MIB, 7 * MIB, 13 * MIB])
async def test_a_build_when_there_is_no_room(tmp_path: Path, left: int) -> None:
    """Where it ends: at the first directory, in the context, in the layer, in the layer's blob."""
    async with nearly_full(tmp_path) as full:
        context = make_files(tmp_path / "context", {"big": NOISE})
        before = full.layers()
        full.disk.fill(leave=left)
        assert FULL in await refused(full.rig.build(COPIED, context, tags=("made",)))
        assert full.layers() == before
        assert not list((full.rig.base / "data/build").glob("work/*"))
        await full.rig.builder.prune(before=0.0, keep=-1, everything=True)
        full.disk.free()
        await full.rig.build(COPIED, context, tags=("made",))
        full.disk.fill()
        assert FULL in await refused(full.rig.build("FROM busybox\nRUN echo 1 >/x", tags=("other",)))
        assert FULL in await refused(full.rig.build("FROM busybox\nENV x=1", tags=("other",)))
        assert full.store.resolve("made").refs == ("made:latest",)


@pytest.mark.parametrize("left", [0, 64 << 10, 3 * MIB])
async def test_a_commit_when_there_is_no_room(tmp_path: Path, left: int) -> None:
    async with nearly_full(tmp_path) as full:
        there = await full.runs("cp /bin/busybox /a; cp /bin/busybox /b; echo ready; exec sleep 1000")
        await until_line(full.rig.runtime, there.id, "ready")
        before = full.files()
        full.disk.fill(leave=left)
        assert FULL in await refused(full.committer.commit(there.id, Wanted(image="made")))
        assert full.files() == before
        assert full.is_running(there)
        full.disk.free()
        await full.committer.commit(there.id, Wanted(image="made"))


async def test_below_the_reserve_nothing_is_written_and_first_goes_what_can_be_made_again(
    tmp_path: Path,
) -> None:
    async with nearly_full(tmp_path, reserve=8 * MIB) as full:
        blob = full.publish(LAYER)
        context = make_files(tmp_path / "context", {"big": NOISE[: 3 * MIB]})
        there = await full.runs("echo 1 >/new; echo ready; exec sleep 1000")
        await until_line(full.rig.runtime, there.id, "ready")
        before = full.files()
        await full.rig.build(COPIED, context, tags=("made",))
        await full.store.remove("made", in_use=lambda digest: [])
        full.disk.fill(leave=7 * MIB)
        assert (await full.push(b"small")).status == 201, "there is room without the build cache"
        assert not any("build/contexts" in name for name in full.files())
        full.disk.fill(leave=6 * MIB)
        before = full.files()
        attempts = (
            full.pull(),
            full.load(LAYER),
            full.rig.build(COPIED, context, tags=("made",)),
            full.committer.commit(there.id, Wanted(image="committed")),
        )
        for attempt in attempts:
            assert "no room for images" in await refused(attempt)
        reply = await full.push(NOISE)
        assert (reply.status, b"no room for images" in reply.body) == (503, True)
        assert full.files() == before
        assert blob not in [path.rpartition("/")[2] for path in full.there.seen("GET")]
        assert full.is_running(there)
        full.disk.free()
        await full.pull()


async def test_the_tasks_of_a_node_are_read_on_a_full_disk(tmp_path: Path) -> None:
    async with nearly_full(tmp_path) as full:
        path = full.rig.base / "tasks.db"
        database = TaskDatabase(path)
        await database.open()
        await database.put(RECORD)
        await database.close()
        full.disk.fill()
        again = TaskDatabase(path)
        assert await again.open() == [RECORD]
        await again.close()


async def test_what_is_opened_on_a_full_disk_makes_room_there(tmp_path: Path) -> None:
    async with nearly_full(tmp_path) as full:
        await full.rig.build("FROM busybox\nRUN echo 1 >/x", tags=("made",))
        await full.store.remove("made", in_use=lambda digest: [])
        await full.rig.builder.close()
        await full.store.close()
        full.disk.fill()
        await full.store.open()
        await full.rig.builder.open()
        layers = full.layers()
        assert [image.refs for image in full.store.list()] == [("busybox:latest",)]
        assert len((await full.rig.builder.prune(before=0.0, keep=-1, everything=True)).keys) == 1
        assert full.layers() < layers, "the layer of the build takes room"
        await full.store.remove("busybox", in_use=lambda digest: [])
        assert full.store.list() == []
