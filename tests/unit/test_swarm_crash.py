"""The daemon is killed between any two steps on disk: the node is in its swarm then or out, never wedged."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from swarmd.daemon import swarm as swarm_module
from swarmd.daemon.ondisk import OnDisk
from swarmd.daemon.state import MemoryFile, NodeMemory
from swarmd.daemon.swarm import Swarm
from swarmd.model.errors import Invalid, NotManager, Refused, Unavailable
from swarmd.model.replace import replace
from swarmd.model.spec import ContainerSpec, TaskTemplate
from swarmd.model.states import TaskState
from swarmd.node.agent import taskdb
from swarmd.node.agent.core.record import TaskRecord
from swarmd.node.agent.taskdb import TaskDatabase
from swarmd.rpc.v1 import node_pb2
from swarmd.security.identity import Credentials, IdentityStore
from swarmd.security.keyring import unlock_key_text
from swarmd.security.vault import LOCKED

EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod")


class Camera:
    """Copies a directory before every step that changes it: what a kill at that moment leaves behind."""

    def __init__(self) -> None:
        self.watched: Path | None = None
        self.images: list[Path] = []
        self._album = Path()
        self._busy = False
        sys.addaudithook(self._look)  # for good: it does nothing while nothing is watched

    def watch(self, directory: Path, album: Path) -> None:
        self.watched, self._album, self.images = directory, album, []

    def _look(self, event: str, given: tuple[object, ...]) -> None:
        if self.watched is None or self._busy or event not in EVENTS:
            return
        where = given[0]
        # Within rmtree names are relative to a directory's descriptor: every step counts then.
        inside = isinstance(where, (str, Path)) and (
            str(where).startswith(str(self.watched)) or not os.path.isabs(str(where))
        )
        if inside and self.watched.exists():
            self._busy = True
            image = self._album / f"{len(self.images):03d}"
            shutil.copytree(self.watched, image)
            self.images.append(image)
            self._busy = False


CAMERA = Camera()


class Raft:
    def status(self) -> Any:
        return type("Status", (), {"members": {"n": "a"}})()


class Clusters:
    def tokens(self) -> tuple[str, str]:
        return "worker token", "manager token"


class Managing:
    raft = Raft()
    cases = type("Cases", (), {"clusters": Clusters()})()


class FakeMember:
    """Writes what a member writes, in its order, and takes part in nothing."""

    trouble: Exception | None = None
    hangs = False

    def __init__(
        self,
        machine: Any,
        credentials: Credentials,
        identity: Any,
        memory: NodeMemory,
        file: Any,
        vault: Any,
        **_: Any,
    ) -> None:
        self.credentials, self.memory, self._file = credentials, memory, file
        self.managing: Managing | None = Managing()
        self.stopped = asyncio.Event()

    async def start(self, *, founding: object = None) -> None:
        if FakeMember.trouble is not None:
            raise FakeMember.trouble
        raft = self._file.directory / "raft"
        raft.mkdir(exist_ok=True)
        (raft / "base").write_bytes(self.memory.node_id.encode())
        if founding is not None:
            self.memory = replace(self.memory, founding=None, number=1)
            self._file.save(self.memory)
        (self._file.directory / "tasks.db").write_bytes(b"tasks")

    async def stop(self, *, leave: bool = False, limit: float | None = None) -> None:
        if leave and limit is None and FakeMember.hangs:
            await asyncio.Event().wait()
        self.stopped.set()


class Network:
    async def stop(self, *, clean: bool) -> None:
        return None


class Rig:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.abandoned = 0
        self.swarm = Swarm(OnDisk(directory), self.machine, cast("Any", None), self.abandon)

    async def machine(self, node_id: str) -> Any:
        return type("Machine", (), {"network": Network()})()

    async def abandon(self) -> None:
        self.abandoned += 1

    async def init(self) -> None:
        if not self.swarm.resumed:
            await self.swarm.resume()
        await self.swarm.init(node_pb2.InitSwarmRequest(advertise_addr="10.0.0.1"), 1_800_000_000.0)

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.directory.iterdir()}


@pytest.fixture(autouse=True)
def a_member_without_ports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(swarm_module, "Member", FakeMember)
    monkeypatch.setattr("swarmd.node.addresses.resolve", lambda text, known, **_: text)
    monkeypatch.setattr(FakeMember, "trouble", None)
    monkeypatch.setattr(FakeMember, "hangs", False)
    yield
    CAMERA.watched = None


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


async def restarted(image: Path) -> Rig:
    """The daemon starts again on what was left."""
    rig = Rig(image)
    await rig.swarm.resume()
    assert rig.swarm.problem == "", image.name
    return rig


async def test_a_kill_during_init_leaves_the_node_in_or_out(data: Path) -> None:
    CAMERA.watch(data, data.parent / "album")
    await Rig(data).init()
    CAMERA.watched = None
    verdicts = []
    for image in CAMERA.images:
        rig = await restarted(image)
        verdicts.append(rig.swarm.member is not None)
        if rig.swarm.member is None:
            assert rig.files == set(), f"{image.name}: what was begun is gone"
            await rig.init()
        await rig.swarm.leave(force=True)
        assert rig.files == set(), image.name
    assert {True, False} == set(verdicts), "the kills came before and after the step that counts"
    assert verdicts == sorted(verdicts), "from then on it is in"


async def test_a_kill_during_leave_leaves_the_node_in_or_out(data: Path) -> None:
    rig = Rig(data)
    await rig.init()
    CAMERA.watch(data, data.parent / "album")
    await rig.swarm.leave(force=True)
    CAMERA.watched = None
    assert rig.files == set()
    verdicts = []
    for image in CAMERA.images:
        again = await restarted(image)
        member = again.swarm.member
        verdicts.append(member is not None)
        if member is not None:
            assert (image / "raft" / "base").read_text() == member.memory.node_id, "nothing of it is lost"
        else:
            assert again.files == set(), image.name
            await again.init()
    assert {True, False} == set(verdicts)
    assert verdicts == sorted(verdicts, reverse=True), "once out it does not come back"


async def test_a_membership_that_cannot_be_resumed_is_told_and_given_up_by_force(data: Path) -> None:
    await Rig(data).init()
    FakeMember.trouble = RuntimeError("what nobody foresaw")
    rig = Rig(data)
    await rig.swarm.resume()
    assert "what nobody foresaw" in rig.swarm.problem
    with pytest.raises(Refused, match=r"what nobody foresaw.*leave --force"):
        await rig.swarm.leave(force=False)
    with pytest.raises(Refused):
        await rig.init()
    await rig.swarm.leave(force=True)
    assert (rig.swarm.problem, rig.files, rig.abandoned) == ("", set(), 1), "no container stays behind"
    with pytest.raises(NotManager):
        await rig.swarm.leave(force=True)


@pytest.mark.parametrize("lost", ["identity", "node.json"])
async def test_a_lost_half_of_the_membership_is_named_and_nothing_is_thrown_away(
    data: Path, lost: str
) -> None:
    await Rig(data).init()
    gone = data / lost
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    rig = Rig(data)
    await rig.swarm.resume()
    assert f"{lost} is missing" in rig.swarm.problem
    assert (data / "raft" / "base").exists()
    await rig.swarm.leave(force=True)
    assert rig.files == set()


async def test_nothing_is_begun_before_the_daemon_knows_what_it_is_part_of(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Rig(data).init()
    monkeypatch.setattr(swarm_module, "START_LIMIT", 0.01)
    rig = Rig(data)
    with pytest.raises(Unavailable, match="is starting"):
        await rig.swarm.init(node_pb2.InitSwarmRequest(advertise_addr="10.0.0.1"), 1_800_000_000.0)
    with pytest.raises(Unavailable, match="is starting"):
        await rig.swarm.leave(force=True)
    assert rig.swarm.state == "pending"
    await rig.swarm.resume()
    assert rig.swarm.state == "active"
    with pytest.raises(Refused, match="already part of a swarm"):
        await rig.init()


async def test_an_init_that_fails_leaves_nothing(data: Path) -> None:
    FakeMember.trouble = Unavailable("the cluster port cannot be opened")
    rig = Rig(data)
    with pytest.raises(Unavailable, match="the cluster port"):
        await rig.init()
    assert (rig.files, rig.swarm.problem) == (set(), "")
    FakeMember.trouble = None
    await rig.init()


async def test_a_disk_that_takes_nothing_is_a_sentence(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("swarmd.security.durable.os.fsync", full)
    rig = Rig(data)
    with pytest.raises(Unavailable, match="No space left on device"):
        await rig.init()
    monkeypatch.undo()
    assert rig.swarm.member is None
    assert (await restarted(data)).files == set()


async def test_a_leave_goes_on_when_nobody_waits_for_it_and_force_overtakes_it(data: Path) -> None:
    rig = Rig(data)
    await rig.init()
    member = cast("Any", rig.swarm.member)
    member.managing = None
    FakeMember.hangs = True
    first = asyncio.ensure_future(rig.swarm.leave(force=False))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not member.stopped.is_set(), "its tasks are still ending"
    async with asyncio.timeout(60):
        await rig.swarm.leave(force=True)
    assert (rig.swarm.member, rig.files) == (None, set())


def test_a_mixture_of_two_swarms_is_refused(data: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
        asyncio.run(Rig(directory).init())
    mixed = tmp_path / "mixed"
    shutil.copytree(first, mixed)
    shutil.copy(second / "node.json", mixed / "node.json")
    with pytest.raises(Invalid, match=r"node\.json is damaged \(it was changed, or comes from another node"):
        OnDisk(mixed).load()
    for directory in (first, second):
        unseal(directory)
    shutil.copy(second / "node.json", first / "node.json")
    with pytest.raises(Invalid, match="mixes two swarms"):
        OnDisk(first).load()


def test_what_an_older_release_left_in_the_clear_is_read_and_sealed_whenever_it_is_killed(
    data: Path, tmp_path: Path
) -> None:
    asyncio.run(Rig(data).init())
    before = OnDisk(data).load()
    unseal(data)
    (data / "tasks.db").unlink()
    tasks = TaskDatabase(data / "tasks.db")
    asyncio.run(write_task(tasks))
    CAMERA.watch(data, tmp_path / "pictures")
    assert OnDisk(data).load() == before
    CAMERA.watched = None
    assert len(CAMERA.images) > 10
    for image in [*CAMERA.images, data]:
        assert OnDisk(image).load() == before
        assert b"PRIVATE KEY" not in (image / "identity" / "node.key").read_bytes()
        assert b"cluster_id" not in (image / "node.json").read_bytes()
        for path in image.glob("tasks.db*"):
            assert b"hunter2" not in path.read_bytes(), path
        disk = OnDisk(image)
        assert disk.load() == before
        again = TaskDatabase(image / "tasks.db", disk.vault)
        assert [record.template.container.env for record in asyncio.run(again.open())] == [SECRET_ENV]
        assert taskdb.keys_used(image / "tasks.db") == {1}
        asyncio.run(again.close())


SECRET_ENV = ("PASSWORD=hunter2",)


async def write_task(tasks: TaskDatabase) -> None:
    await tasks.open()
    await tasks.put(
        TaskRecord(
            task_id="t1", service_id="s1", service_name="web", spec_version=1, slot=1, node_id="n1",
            desired=TaskState.RUNNING, template=TaskTemplate(container=ContainerSpec(env=SECRET_ENV)),
        )
    )  # fmt: skip
    await tasks.close()


def unseal(data: Path) -> None:
    """What a release that sealed nothing had on its disk."""
    found = OnDisk(data).load()
    assert found is not None
    shutil.rmtree(data / "vault")
    IdentityStore(data / "identity").save(found[0])
    MemoryFile(data / "node.json").save(found[1])


class TestLocked:
    """The daemon starts while the operator holds the key."""

    KEY = bytes(range(32))

    async def locked(self, data: Path) -> Rig:
        await Rig(data).init()
        disk = OnDisk(data)
        disk.load()
        disk.vault.rewrap(self.KEY, followed=7)
        rig = Rig(data)
        await rig.swarm.resume()
        return rig

    async def test_it_takes_part_in_nothing_and_says_what_to_do(self, data: Path) -> None:
        rig = await self.locked(data)
        assert (rig.swarm.state, rig.swarm.member, rig.swarm.problem) == ("locked", None, "")
        assert str(rig.swarm.absence()) == LOCKED
        with pytest.raises(Refused, match="needs to be unlocked"):
            await rig.init()
        with pytest.raises(Refused, match="Please unlock it first or use `--force`"):
            await rig.swarm.leave(force=False)

    async def test_another_key_changes_nothing_and_the_right_one_takes_it_up(self, data: Path) -> None:
        rig = await self.locked(data)
        for wrong in ("", "SWMKEY-1-", "hello", unlock_key_text(bytes(32))):
            before = sorted((path, path.read_bytes()) for path in data.rglob("*") if path.is_file())
            with pytest.raises(Invalid, match="invalid key provided"):
                await rig.swarm.unlock(wrong)
            assert before == sorted((path, path.read_bytes()) for path in data.rglob("*") if path.is_file())
            assert rig.swarm.state == "locked"
        await rig.swarm.unlock(f" {unlock_key_text(self.KEY)}\n")
        assert rig.swarm.state == "active"
        with pytest.raises(Refused, match="swarm is not locked"):
            await rig.swarm.unlock(unlock_key_text(self.KEY))
        assert (await restarted(data)).swarm.state == "locked", "at the next start it is locked again"

    async def test_leaving_by_force_needs_no_key(self, data: Path) -> None:
        rig = await self.locked(data)
        await rig.swarm.leave(force=True)
        assert (rig.swarm.state, rig.files, rig.abandoned) == ("inactive", set(), 1)
        await rig.init()
        assert rig.swarm.state == "active"
