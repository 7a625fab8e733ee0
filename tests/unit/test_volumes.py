"""Volumes: made whole, kept while used, removed whole, whatever containers and crashes left there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.model.errors import Conflict, Invalid, NotFound, Refused, Unavailable
from swarmd.node.volume.core.volume import ANONYMOUS, Volume, anonymous_name, prunable
from swarmd.node.volume.disk import VolumeDisk
from swarmd.node.volume.volumes import Volumes, Wanted
from tests.unit.agent_fakes import StillClock


class Bed:
    """Volumes below a directory, and the containers that the node says there are."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mounted: list[tuple[str, str]] = []
        self.tokens: Iterator[int] = iter(range(1000))
        self.clock = StillClock()
        self.volumes = Volumes(root, self.clock, lambda: f"id{next(self.tokens)}", lambda: self.mounted)

    async def names(self) -> list[str]:
        return [volume.name for volume in await self.volumes.list()]


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path / "volumes")


async def test_a_volume_is_made_once_and_keeps_what_was_said_first(bed: Bed) -> None:
    made = await bed.volumes.create("data", {"a": "b"})
    again = await bed.volumes.create("data", {"c": "d"})
    assert made == again == await bed.volumes.get("data")
    assert (made.labels, made.created_at) == ({"a": "b"}, 1_000.0)
    assert Path(bed.volumes.path("data")).stat().st_mode & 0o777 == 0o755


async def test_a_volume_without_a_name_gets_one_and_is_known_to_have_had_none(bed: Bed) -> None:
    made = await bed.volumes.create("", {"a": "b"})
    assert made.is_anonymous
    assert await bed.names() == [made.name]


@pytest.mark.parametrize("name", ["../etc", "/etc", ".hidden", "a/b", "-x", "a b", "x" * 256, "ä"])
async def test_a_name_that_is_none_is_refused(bed: Bed, name: str) -> None:
    for attempt in (
        bed.volumes.create(name, {}),
        bed.volumes.use("t1", Wanted(name=name, target="/d")),
    ):
        with pytest.raises(Invalid, match="volume name"):
            await attempt
    with pytest.raises(NotFound, match="no such volume"):
        await bed.volumes.remove(name)
    assert await bed.names() == []


async def test_a_name_of_one_letter_is_for_services_that_had_it(bed: Bed) -> None:
    with pytest.raises(Invalid, match="too short"):
        await bed.volumes.create("v", {})
    await bed.volumes.use("t1", Wanted(name="v", target="/d"))
    assert await bed.names() == ["v"]


async def test_only_the_local_driver_is_known(bed: Bed) -> None:
    with pytest.raises(Invalid, match=r"plugin nfs.*local"):
        await bed.volumes.create("data", {}, driver="nfs")


async def test_a_volume_is_made_at_first_use_with_the_mount_s_labels(bed: Bed) -> None:
    path = await bed.volumes.use("t1", Wanted(name="data", target="/d", labels={"a": "b"}))
    assert path == str(bed.root / "data" / "_data")
    assert (await bed.volumes.get("data")).labels == {"a": "b"}
    assert await bed.volumes.use("t2", Wanted(name="data", target="/other")) == path


async def test_an_anonymous_volume_goes_with_its_container_and_a_named_one_stays(bed: Bed) -> None:
    await bed.volumes.use("t1", Wanted(name="data", target="/d"))
    own = Path(await bed.volumes.use("t1", Wanted(target="/a/b")))
    beside = Path(await bed.volumes.use("t1", Wanted(target="/a_b")))
    other = Path(await bed.volumes.use("t2", Wanted(target="/a/b")))
    assert len({own, beside, other}) == 3
    assert await bed.volumes.use("t1", Wanted(target="/a/b")) == str(own)  # after a crash, say
    (own / "file").write_text("x")
    await bed.volumes.remove_anonymous("t1")
    assert [path.exists() for path in (own, beside, other)] == [False, False, True]
    assert (bed.root / "data" / "_data").exists()


async def test_an_anonymous_volume_goes_with_its_container_also_after_a_restart(bed: Bed) -> None:
    own = Path(await bed.volumes.use("t1", Wanted(target="/a")))
    fresh = Bed(bed.root)
    await fresh.volumes.open()
    await fresh.volumes.remove_anonymous("t1")
    assert not own.exists()
    assert await fresh.names() == []


async def test_volumes_can_be_made_while_a_large_one_is_being_cleared_away(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bed.volumes.create("large", {})
    clearing, made = threading.Event(), threading.Event()
    clear = VolumeDisk.clear

    def slowly(disk: VolumeDisk, gone: Path) -> None:
        clearing.set()
        assert made.wait(60)
        clear(disk, gone)

    monkeypatch.setattr(VolumeDisk, "clear", slowly)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(bed.volumes.remove("large"))
        await asyncio.to_thread(clearing.wait)
        with pytest.raises(NotFound):
            await bed.volumes.get("large")
        await bed.volumes.use("t1", Wanted(name="large", target="/d"))
        made.set()
    assert [path.name for path in bed.root.iterdir()] == ["large"]


async def test_a_volume_in_use_is_not_removed(bed: Bed) -> None:
    path = await bed.volumes.use("t1", Wanted(name="data", target="/d"))
    with pytest.raises(Conflict, match=r"remove data: volume is in use - \[t1\]"):
        await bed.volumes.remove("data")
    bed.mounted.append(("t1", f"{path}"))
    bed.volumes.release("t1")
    with pytest.raises(Conflict, match="t1"):
        await bed.volumes.remove("data")
    assert await bed.volumes.prune(everything=True, labels={}) == ([], 0)
    bed.mounted.clear()
    await bed.volumes.remove("data")
    with pytest.raises(NotFound, match="get data: no such volume"):
        await bed.volumes.get("data")
    assert list(bed.root.iterdir()) == []


async def test_a_mount_of_a_part_of_a_volume_uses_it_and_one_with_a_name_alike_does_not(bed: Bed) -> None:
    for name in ("data", "data2"):
        await bed.volumes.create(name, {})
    bed.mounted.append(("c1", str(bed.root / "data" / "_data" / "below")))
    assert (bed.volumes.users("data"), bed.volumes.users("data2")) == (["c1"], [])


async def test_a_prune_takes_what_nobody_named_and_with_all_everything_unused(bed: Bed) -> None:
    await bed.volumes.create("kept", {})
    await bed.volumes.create("marked", {"env": "test"})
    nameless = await bed.volumes.create("", {})
    (Path(bed.volumes.path(nameless.name)) / "file").write_bytes(b"x" * 10_000)
    gone, freed = await bed.volumes.prune(everything=False, labels={})
    assert (gone, freed >= 10_000) == ([nameless.name], True)
    assert (await bed.volumes.prune(everything=True, labels={"env": "prod"}))[0] == []
    assert (await bed.volumes.prune(everything=True, labels={"env": None}))[0] == ["marked"]
    assert (await bed.volumes.prune(everything=True, labels={}))[0] == ["kept"]


async def test_what_a_container_left_in_a_volume_is_not_followed(bed: Bed, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"x" * 100_000)
    await bed.volumes.create("data", {})
    data = Path(bed.volumes.path("data"))
    (data / "link").symlink_to(outside)
    (data / "file").symlink_to(outside / "precious")
    assert await bed.volumes.size("data") < 50_000
    await bed.volumes.remove("data")
    assert (outside / "precious").stat().st_size == 100_000


async def test_a_link_in_the_place_of_a_volume_is_none(bed: Bed, tmp_path: Path) -> None:
    await bed.volumes.open()
    (tmp_path / "outside" / "_data").mkdir(parents=True)
    (bed.root / "data").symlink_to(tmp_path / "outside")
    with pytest.raises(Refused, match="is no directory"):
        await bed.volumes.use("t1", Wanted(name="data", target="/d"))
    assert await bed.names() == []
    (bed.root / "odd").mkdir()
    (bed.root / "odd" / "_data").symlink_to(tmp_path / "outside")
    with pytest.raises(Refused, match="is no directory"):
        await bed.volumes.use("t1", Wanted(name="odd", target="/d"))


async def test_volumes_of_0_1_0_are_volumes(bed: Bed) -> None:
    task = "0123456789abcdefghijklmno"
    for name in ("data", f"task-{task}-a_b"):
        (bed.root / name / "_data").mkdir(parents=True)
    assert [(one.name, one.owner, one.is_anonymous) for one in await bed.volumes.list()] == [
        ("data", "", False),
        (f"task-{task}-a_b", task, True),
    ]
    await bed.volumes.open()
    await bed.volumes.remove_anonymous(task)
    assert await bed.names() == ["data"]
    (bed.root / "data" / "volume.json").write_text("{torn")
    assert (await bed.volumes.get("data")).labels == {}


async def test_a_start_clears_away_what_a_crash_left_half_done(bed: Bed) -> None:
    await bed.volumes.create("data", {})
    for name in (".making-x", ".removing-y"):
        (bed.root / name / "_data").mkdir(parents=True)
    await Bed(bed.root).volumes.open()
    assert [path.name for path in bed.root.iterdir()] == ["data"]


async def test_a_volume_that_cannot_be_made_is_unavailable_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r'volume "data" cannot be'):
        await Bed(tmp_path / "file").volumes.use("t1", Wanted(name="data", target="/d"))


async def test_a_crash_between_any_two_steps_leaves_a_whole_volume_or_none(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bed.volumes.open()
    real = {name: getattr(os, name) for name in ("open", "rename", "chmod", "fsync")}
    for cut in range(12):
        left = iter(range(cut))

        def limited(name: str, left: Iterator[int] = left) -> object:
            def call(*args: object, **kw: object) -> object:
                if next(left, None) is None:
                    raise OSError(5, "cut off")
                return real[name](*args, **kw)

            return call

        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(os, name, limited(name))
            with contextlib.suppress(Unavailable):
                await bed.volumes.create("data", {"a": "b"})
        fresh = Bed(bed.root)
        await fresh.volumes.open()
        for volume in await fresh.volumes.list():
            assert volume.labels == {"a": "b"}
            assert Path(fresh.volumes.path(volume.name)).is_dir()
            await fresh.volumes.remove(volume.name)
        assert list(bed.root.iterdir()) == []


async def test_the_metadata_is_one_file_of_json(bed: Bed) -> None:
    await bed.volumes.create("data", {"a": "b"})
    assert json.loads((bed.root / "data" / "volume.json").read_text()) == {
        "name": "data", "created_at": 1000.0, "labels": {"a": "b"}, "owner": "",
    }  # fmt: skip


def test_the_name_of_an_anonymous_volume_tells_targets_and_containers_apart() -> None:
    names = {anonymous_name(owner, target) for owner in ("a", "b") for target in ("/x", "/y")}
    assert len(names) == 4
    assert prunable([Volume(name="x", labels={ANONYMOUS: ""})], {"x"}, everything=True, labels={}) == []
