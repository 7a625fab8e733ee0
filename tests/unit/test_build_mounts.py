"""What a command of a build sees of the context that is mounted for it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest

from swarmd.image.build.core.graph import BuildMount, Origin, Run
from swarmd.image.build.work import Chain, Task
from swarmd.node.building.hands import BuildHands, Means
from swarmd.node.building.merged import Merged
from swarmd.node.building.mounting import CacheMounts
from swarmd.node.building.running import Place


class FolderContext(Merged):
    """A context whose files are all here."""

    async def bring(self, paths: Iterable[str]) -> None:
        """There is nothing to fetch."""


class Scratch:
    """Images of a stage that begins with nothing."""

    async def lowers(self, chain: Chain) -> tuple[Path, ...]:
        return ()


class Looking:
    """Notes what is at the source of each mount, which is not followed if it is a link."""

    def __init__(self) -> None:
        self.seen: dict[str, object] = {}

    async def run(self, step: Run, place: Place, output: object, *, network: str) -> None:
        for mount in place.mounts:
            source = Path(mount.source)
            assert not source.is_symlink(), os.readlink(source)
            self.seen[mount.target] = sorted(os.listdir(source)) if source.is_dir() else source.read_text()


@pytest.mark.parametrize("readonly", [True, False])
async def test_a_mounted_directory_is_not_taken_for_what_it_holds(tmp_path: Path, readonly: bool) -> None:
    context = tmp_path / "context"
    for name in ("data", "linked"):
        (context / name).mkdir(parents=True)
    (tmp_path / "outside").write_text("of the node")
    (context / "linked" / "linked").symlink_to(tmp_path / "outside")
    (context / "data" / "data").write_text("in it")
    (context / "one.txt").write_text("alone")
    (context / "way").symlink_to("one.txt")
    runner, ids = Looking(), count()
    means = Means(
        store=cast(Any, None),
        runner=cast(Any, runner),
        caches=CacheMounts(tmp_path / "mounts", lambda: f"cache{next(ids)}"),
        root=tmp_path / "build",
        private=tmp_path / "private",
        new_id=lambda: f"id{next(ids)}",
    )
    hands = BuildHands(
        means,
        cast(Any, FolderContext((context,))),
        cast(Any, Scratch()),
        secrets={},
        network="none",
        clamp=None,
    )
    mounts = tuple(
        BuildMount(kind="bind", target=f"/{name}", source=f"/{name}", readonly=readonly)
        for name in ("data", "linked", "one.txt", "way")
    )
    task = Task(operation=Run(args=("true",), mounts=mounts), parent=Chain(), sources=((Origin(), Chain()),))
    async with hands:
        await hands.carry_out(task, cast(Any, None))
    assert runner.seen == {"/data": ["data"], "/linked": ["linked"], "/one.txt": "alone", "/way": "alone"}


async def test_a_cache_that_is_being_filled_is_not_pruned(tmp_path: Path) -> None:
    ids = count()
    caches = CacheMounts(tmp_path, lambda: f"cache{next(ids)}")
    mount = BuildMount(kind="cache", target="/c", source="/seed", uid=os.getuid(), gid=os.getgid())

    async def fill(_: BuildMount, directory: Path) -> str:
        (directory / "seed").write_text("sown")
        caches.prune(float("inf"))
        return ""

    async with caches.using(mount, fill) as path:
        assert caches.prune(float("inf")) == 0
        assert (path / "seed").read_text() == "sown"
    assert caches.prune(float("inf")) > 0
    assert not list(tmp_path.iterdir())


def test_what_was_being_made_of_a_cache_when_the_daemon_ended_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".half").mkdir()
    (tmp_path / "whole").mkdir()
    CacheMounts(tmp_path, lambda: "id")
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


async def test_a_cache_that_a_build_begins_to_use_while_others_are_pruned_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = count()
    caches = CacheMounts(tmp_path / "mounts", lambda: str(next(ids)))
    mount = BuildMount(kind="cache", target="/cache", uid=os.getuid(), gid=os.getgid())
    async with caches.using(mount, nothing) as path:
        (path / "kept").touch()
    looked, used, rename = threading.Event(), threading.Event(), Path.rename

    def after_the_look(gone: Path, target: Path) -> Path:
        looked.set()
        used.wait(0.3)
        return rename(gone, target)

    monkeypatch.setattr(Path, "rename", after_the_look)
    pruning = asyncio.ensure_future(asyncio.to_thread(caches.prune, float("inf")))
    await asyncio.to_thread(looked.wait, 60)
    async with caches.using(mount, nothing) as path:
        used.set()
        await pruning
        assert path.is_dir()


async def nothing(mount: BuildMount, directory: Path) -> str:
    """Nothing is put into it."""
    return ""


@pytest.mark.parametrize("step", ["stat", "rename"])
def test_caches_that_another_prune_removes_meanwhile_are_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    caches = CacheMounts(tmp_path / "mounts", lambda: "new")
    (tmp_path / "mounts/one").mkdir()
    real = getattr(Path, step)

    def late(path: Path, *args: Any, **more: Any) -> Any:
        if os.path.isdir(path) and path.name == "one":
            os.rmdir(path)
        return real(path, *args, **more)

    monkeypatch.setattr(Path, step, late)
    assert caches.prune(float("inf")) == 0
