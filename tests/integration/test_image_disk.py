"""The store's directory over releases, reboots and removals."""

from __future__ import annotations

import asyncio
import io
import os
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from swarmd.image import settling, trash
from swarmd.image.core.catalog import Catalog
from swarmd.image.settling import MARK
from swarmd.image.store import ImageStore
from swarmd.model.errors import SwarmError
from tests.integration.image_rig import LAYERS, StillClock, archive, entry, leftovers, nobody, opened, pack

pytestmark = pytest.mark.root


async def loaded(root: Path) -> ImageStore:
    store = await opened(root)
    await store.load(io.BytesIO(archive("a:1", *LAYERS)))
    await store.tag("a:1", "b:1")
    await store.prepare("a:1")
    return store


async def until(condition: object, what: str) -> None:
    assert callable(condition)
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(what)


async def test_a_store_of_release_0_1_0_is_taken_over(tmp_path: Path) -> None:
    root = tmp_path / "images"
    store = await loaded(root)
    listed, layers = store.list(), (await store.prepare("a:1")).layers
    await store.close()
    old = Catalog(store._keeper.catalog.images, store._keeper.catalog.refs)
    (root / "catalog.json").write_bytes(msgspec.json.encode({"images": old.images, "refs": old.refs}))
    for name in ("store.db", "store.db-wal", "store.db-shm"):
        (root / name).unlink(missing_ok=True)
    for directory in list((root / "blobs/sha256").iterdir()):
        for blob in directory.iterdir():
            blob.rename(root / "blobs/sha256" / blob.name)
        directory.rmdir()
    again = await opened(root)
    assert (again.list(), again.warnings) == (listed, ())
    assert (await again.prepare("b:1")).layers == layers
    assert not (root / "catalog.json").exists()
    await again.remove("a:1", in_use=nobody)
    await again.close()
    assert [info.refs for info in (await opened(root)).list()] == [("b:1",)]


async def test_a_damaged_database_is_told_with_its_path(tmp_path: Path) -> None:
    (await opened(tmp_path / "images"))._disk.close()
    (tmp_path / "images" / "store.db").write_bytes(b"no database" * 500)
    with pytest.raises(SwarmError, match=r"store\.db is damaged .*load the images again"):
        await opened(tmp_path / "images")


async def test_layers_torn_by_a_power_failure_are_unpacked_again(tmp_path: Path) -> None:
    store = await loaded(tmp_path / "images")
    tree = Path((await store.prepare("a:1")).layers[0])
    await store.close()
    (tree / "top").write_bytes(b"")  # named, but its data never got to the disk
    os.setxattr(tree, MARK, b"an earlier boot")
    again = await opened(tmp_path / "images")
    assert not tree.exists()
    assert len((Path((await again.prepare("a:1")).layers[0]) / "top").read_bytes()) == 9000
    await again.close()


async def test_a_crash_of_the_daemon_alone_takes_no_layer_from_running_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "_LATER", 3600.0)
    store = await loaded(tmp_path / "images")
    tree = Path((await store.prepare("a:1")).layers[0])
    await store.close()
    assert os.getxattr(tree, MARK)
    again = await opened(tmp_path / "images")
    assert tree.is_dir()
    await again.close()


async def test_the_mark_goes_when_the_disk_has_it_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "_LATER", 0.01)
    store = await loaded(tmp_path / "images")
    trees = [Path(layer) for layer in (await store.prepare("a:1")).layers]
    await until(
        lambda: not any(MARK in os.listxattr(tree) for tree in trees), "the marks of layers are never removed"
    )
    await store.close()


async def test_many_names_are_removed_by_and_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trash, "_AT_ONCE", 10)
    monkeypatch.setattr(trash, "_STEP", 5)
    store = await opened(tmp_path / "images")
    await store.load(io.BytesIO(archive("many:1", pack(*(entry(f"d{n % 7}/{n}") for n in range(100))))))
    await store.prepare("many:1")
    await store.remove("many:1", in_use=nobody)
    assert store.list() == []
    assert [name for name in leftovers(tmp_path / "images") if not name.startswith("trash/")] == []
    await until(lambda: leftovers(tmp_path / "images") == [], "the trash is never empty")


async def test_what_was_not_removed_is_removed_by_the_next_process(tmp_path: Path) -> None:
    store = await opened(tmp_path / "images")
    await store.close()
    deep = tmp_path / "images/trash/7/a/b"
    deep.mkdir(parents=True)
    (deep / "file").touch()
    await opened(tmp_path / "images")
    assert leftovers(tmp_path / "images") == []


async def test_unfinished_blobs_are_swept_after_a_day(tmp_path: Path) -> None:
    store = await opened(tmp_path / "images")
    old, new = await store.content.ingest(), await store.content.ingest()
    for ingest in (old, new):
        await ingest.write(b"part")
    path = tmp_path / "images/ingest"
    now = StillClock().now()
    os.utime(path / old.key, (now - 90_000, now - 90_000))
    os.utime(path / new.key, (now - 80_000, now - 80_000))
    await store.gc(nobody)
    assert [each.name for each in path.iterdir()] == [new.key]


@pytest.mark.parametrize("when", ["listed", "looked at"])
async def test_an_upload_that_ends_while_unfinished_ones_are_swept_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    store = await opened(tmp_path / "images")
    ending, old = await store.content.ingest(), await store.content.ingest()
    path = tmp_path / "images/ingest"
    then = StillClock().now() - 90_000
    for ingest in (ending, old):
        os.utime(path / ingest.key, (then, then))
    step = Path.iterdir if when == "listed" else Path.stat

    def ends(where: Path, *args: Any, **more: Any) -> Any:
        found = step(where, *args, **more)
        if where in (path, path / ending.key):
            found = list(found) if when == "listed" else found
            (path / ending.key).unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, step.__name__, ends)
    await store.gc(nobody)
    assert os.listdir(path) == []


async def test_removing_works_on_a_full_disk(tmp_path: Path) -> None:
    store = await loaded(tmp_path / "images")
    spare = tmp_path / "images/spare"
    assert spare.stat().st_size > 0
    records = store._disk._records
    write = records._write

    def refuses(catalog: Catalog) -> None:
        if spare.exists():
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        write(catalog)

    records._write = refuses  # type: ignore[method-assign]
    await store.remove("a:1", in_use=nobody)
    await store.remove("b:1", in_use=nobody)
    await store.close()
    assert [info.refs for info in (await opened(tmp_path / "images")).list()] == []
