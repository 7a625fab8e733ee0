"""Layers on a real disk: hostile ones, and what overlayfs makes of the others."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.image.core.rules import Limits
from swarmd.image.store import ImageStore
from swarmd.model.errors import Invalid
from tests.integration.image_rig import (
    Member,
    archive,
    entry,
    folder,
    hardlink,
    leftovers,
    merged,
    nobody,
    opened,
    pack,
    prepared,
    symlink,
)

pytestmark = pytest.mark.root


@pytest.fixture
async def store(tmp_path: Path) -> ImageStore:
    return await opened(tmp_path / "images")


async def refused(store: ImageStore, words: str, *members: Member) -> None:
    await store.load(io.BytesIO(archive("bad:1", pack(*members))))
    with pytest.raises(Invalid, match=words):
        await store.prepare("bad:1")
    await store.remove("bad:1", in_use=nobody)
    assert leftovers(store._disk.root) == []


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory that no layer may touch."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "secret").write_text("untouched")
    yield place
    assert [path.name for path in place.iterdir()] == ["secret"]
    assert (place / "secret").read_text() == "untouched"


class TestHostileLayers:
    async def test_names_that_climb_are_refused(self, store: ImageStore, outside: Path) -> None:
        await refused(store, "climbs out", entry("../../outside/x", b"x"))
        await refused(store, "climbs out", entry(f"a/../../{outside.name}/x", b"x"))

    async def test_an_absolute_name_lands_inside(self, store: ImageStore, outside: Path) -> None:
        (tree,) = await prepared(store, pack(entry(str(outside / "x"), b"inside")))
        assert tree.joinpath(*(outside / "x").parts[1:]).read_bytes() == b"inside"

    @pytest.mark.parametrize("absolute", [True, False])
    async def test_a_link_as_parent_stays_inside(
        self, store: ImageStore, outside: Path, absolute: bool
    ) -> None:
        target = str(outside) if absolute else "../" * 30 + str(outside)[1:]
        inside = str(outside)[1:]
        (tree,) = await prepared(
            store, pack(folder(inside), symlink("link", target), entry("link/secret", b"inside"))
        )
        assert (tree / inside / "secret").read_bytes() == b"inside"

    async def test_a_link_to_nothing_as_parent_is_refused(self, store: ImageStore, outside: Path) -> None:
        await refused(store, "contradicts itself", symlink("link", str(outside)), entry("link/x", b"x"))

    async def test_a_file_is_never_written_through_a_link(self, store: ImageStore, outside: Path) -> None:
        (tree,) = await prepared(
            store, pack(symlink("file", str(outside / "secret")), entry("file", b"mine", mode=0o4755))
        )
        assert (tree / "file").read_bytes() == b"mine"
        assert not (tree / "file").is_symlink()

    async def test_a_directory_over_a_link_changes_nothing_behind_it(
        self, store: ImageStore, outside: Path
    ) -> None:
        before = outside.stat().st_mode
        (tree,) = await prepared(store, pack(symlink("d", str(outside)), folder("d", mode=0o777)))
        assert stat.S_ISDIR((tree / "d").lstat().st_mode)
        assert outside.stat().st_mode == before

    async def test_a_hard_link_reaches_nothing_outside(self, store: ImageStore, outside: Path) -> None:
        await refused(store, "no layer has that file", hardlink("x", str(outside / "secret")))
        await refused(store, "climbs out", hardlink("x", "../outside/secret"))
        await refused(store, "no layer has", symlink("l", str(outside)), hardlink("x", "l2/secret"))
        await refused(store, "no such file", folder("d"), hardlink("x", "d"))

    async def test_a_parent_that_is_a_file_is_refused(self, store: ImageStore) -> None:
        await refused(store, "contradicts itself", entry("a", b"x"), entry("a/b", b"x"))

    async def test_the_limits_hold(self, tmp_path: Path) -> None:
        store = await opened(tmp_path / "small", Limits(entries=4, bytes=64 << 10))
        await refused(store, "more than 4 entries", *(entry(str(number)) for number in range(5)))
        bomb = archive("bomb:1", pack(entry("zeros", bytes(1 << 20))), squeeze=gzip.compress)
        with pytest.raises(Invalid, match="longer than the 65536 bytes"):
            await store.load(io.BytesIO(bomb))
        assert leftovers(tmp_path / "small") == []
        assert store.list() == []

    async def test_a_tree_of_any_depth_can_be_removed(self, store: ImageStore) -> None:
        deep = "/".join("d" * 200)
        members = [folder(deep), symlink("s0", deep)]
        for number in range(8):
            members += [folder(f"s{number}/{deep}"), symlink(f"s{number + 1}", f"s{number}/{deep}")]
        await prepared(store, pack(*members))
        await store.remove("test:1", in_use=nobody)
        assert store.list() == []


class TestUnpacking:
    async def test_everything_a_file_has_arrives(self, store: ImageStore) -> None:
        capability = bytes.fromhex("0100000200040000000000000000000000000000")
        extras = {"SCHILY.xattr.security.capability": capability.decode("latin-1"),
                  "SCHILY.xattr.user.mine": "v", "SCHILY.xattr.trusted.overlay.redirect": "/etc"}  # fmt: skip
        (tree,) = await prepared(
            store,
            pack(
                folder("d", mode=0o1777, mtime=11),
                entry("d/su", b"x", mode=0o6755, uid=12, gid=34, mtime=77, pax_headers=extras),
                hardlink("d/again", "d/su"),
                entry("null", b"", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
                entry("fifo", b"", tarfile.FIFOTYPE),
                symlink("abs", "/etc/passwd"),
            ),
        )
        seen = (tree / "d/su").lstat()
        assert (stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid, seen.st_mtime) == (0o6755, 12, 34, 77)
        assert sorted(os.listxattr(tree / "d/su")) == ["security.capability", "user.mine"]
        assert (tree / "d/again").lstat().st_ino == seen.st_ino
        assert ((tree / "d").stat().st_mode & 0o7777, (tree / "d").stat().st_mtime) == (0o1777, 11)
        null = (tree / "null").lstat()
        assert (stat.S_ISCHR(null.st_mode), null.st_rdev, null.st_mode & 0o777) == (
            True,
            os.makedev(1, 3),
            0o666,
        )
        assert stat.S_ISFIFO((tree / "fifo").lstat().st_mode)
        assert os.readlink(tree / "abs") == "/etc/passwd"

    async def test_of_two_entries_with_one_name_the_last_counts(self, store: ImageStore) -> None:
        (tree,) = await prepared(
            store,
            pack(
                folder("a"), entry("a/x", b"1"), entry("a", b"file now"), entry("b", b"1"), folder("b"),
                entry("b/y", b"2"), entry("c", b"1"), entry("c", b"2"), folder("b"), hardlink("c", "c"),
            ),
        )  # fmt: skip
        assert (tree / "a").read_bytes() == b"file now"
        assert (tree / "b/y").read_bytes() == b"2"
        assert (tree / "c").read_bytes() == b"2"

    async def test_the_merged_view_is_what_the_layers_say(self, store: ImageStore, tmp_path: Path) -> None:
        bottom = pack(
            folder("keep"),
            entry("keep/old", b"old"),
            folder("gone"),
            entry("gone/x", b"x"),
            folder("opaque"),
            entry("opaque/low", b"low"),
            folder("redo"),
            entry("redo/low", b"low"),
            entry("file", b"low"),
        )
        top = pack(
            folder("keep"),
            entry("keep/new", b"new"),
            entry(".wh.gone"),
            folder("opaque"),
            entry("opaque/top", b"top"),
            entry("opaque/.wh..wh..opq"),
            entry(".wh.redo"),
            folder("redo"),
            entry("redo/top", b"top"),
            entry("file", b"top"),
            entry(".wh.file"),
            entry(".wh..wh.plnk/0"),
        )
        low, high = await prepared(store, bottom, top)
        with merged(tmp_path / "view", high, low) as view:
            found = sorted(str(path.relative_to(view)) for path in view.rglob("*") if path.is_file())
            assert found == ["file", "keep/new", "keep/old", "opaque/top", "redo/top"]
            assert (view / "file").read_bytes() == b"top"
            assert not (view / "gone").exists()

    async def test_a_parent_left_out_looks_as_it_does_below(self, store: ImageStore) -> None:
        bottom = pack(
            folder("tmp", mode=0o1777, uid=5), folder("srv"), folder("srv/www", mode=0o2750, gid=33)
        )
        top = pack(entry("tmp/x", b"x"), entry("srv/www/index", b"y"), entry("new/z", b"z"))
        _, high = await prepared(store, bottom, top)
        looks = {name: (high / name).stat() for name in ("tmp", "srv", "srv/www", "new")}
        assert (looks["tmp"].st_mode & 0o7777, looks["tmp"].st_uid) == (0o1777, 5)
        assert (looks["srv/www"].st_mode & 0o7777, looks["srv/www"].st_gid) == (0o2750, 33)
        assert (looks["new"].st_mode & 0o7777, looks["srv"].st_mode & 0o7777) == (0o755, 0o755)

    async def test_a_hidden_parent_is_not_looked_at(self, store: ImageStore) -> None:
        bottom = pack(folder("tmp", mode=0o1777))
        middle = pack(entry(".wh.tmp"))
        *_, high = await prepared(store, bottom, middle, pack(entry("tmp/x", b"x")))
        assert (high / "tmp").stat().st_mode & 0o7777 == 0o755

    async def test_a_layer_that_leans_on_its_lowers_is_kept_per_base(self, store: ImageStore) -> None:
        top = pack(entry("tmp/x", b"x"))
        one = archive("one:1", pack(folder("tmp", mode=0o1777)), top)
        two = archive("two:1", pack(folder("tmp", mode=0o700)), top)
        await store.load(io.BytesIO(one))
        await store.load(io.BytesIO(two))
        modes = [
            (Path((await store.prepare(name)).layers[0]) / "tmp").stat().st_mode & 0o7777
            for name in ("one:1", "two:1")
        ]
        assert modes == [0o1777, 0o700]

    async def test_a_hard_link_into_a_lower_layer_brings_the_file_up(self, store: ImageStore) -> None:
        bottom = pack(folder("d", mode=0o700), entry("d/data", b"content", mode=0o4711, uid=9))
        low, high = await prepared(store, bottom, pack(hardlink("link", "d/data")))
        seen = (high / "link").stat()
        assert (high / "link").read_bytes() == b"content"
        assert (stat.S_IMODE(seen.st_mode), seen.st_uid) == (0o4711, 9)
        assert (high / "d/data").stat().st_ino == seen.st_ino != (low / "d/data").stat().st_ino
        assert (high / "d").stat().st_mode & 0o777 == 0o700

    async def test_layers_below_an_opaque_root_are_left_out(self, store: ImageStore) -> None:
        trees = await prepared(store, pack(entry("old")), pack(entry(".wh..wh..opq"), entry("new")))
        assert [sorted(path.name for path in tree.iterdir()) for tree in trees] == [["new"]]

    async def test_a_shared_layer_is_one_tree_and_unpacked_once(self, store: ImageStore) -> None:
        base = pack(folder("d"), entry("d/x", b"x"))
        await store.load(io.BytesIO(archive("one:1", base, pack(entry("1")))))
        await store.load(io.BytesIO(archive("two:1", base, pack(entry("2")), squeeze=gzip.compress)))
        first, *others = await asyncio.gather(*(store.prepare(name) for name in ("one:1", "two:1", "one:1")))
        assert {rootfs.layers[-1] for rootfs in others} == {first.layers[-1]}
        assert len(list(Path(first.layers[0]).parent.iterdir())) == 3
