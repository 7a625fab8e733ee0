"""A container's upper directory → a layer: what it says, that it is always the same, and who reads it."""

from __future__ import annotations

import io
import os
import socket
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from swarmd.image.port import Layer
from swarmd.image.store import ImageStore
from swarmd.model.errors import Invalid, Unavailable
from tests.integration.image_rig import (
    archive,
    entry,
    folder,
    leftovers,
    merged,
    opened,
    pack,
    prepared,
    snapshot,
)

pytestmark = pytest.mark.root

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


@pytest.fixture
async def store(tmp_path: Path) -> ImageStore:
    return await opened(tmp_path / "images")


def furnish(root: Path) -> None:
    """Everything a layer may have in it, under ``root``."""
    for name in ("b", "a", "a-1", "z" * 200, "é", "deep/" + "/".join("d" * 60)):
        (root / name).mkdir(parents=True)
        (root / name / "file").write_bytes(name.encode())
        os.utime(root / name / "file", ns=(7_500_000_000, 7_500_000_000))
    (root / "long").symlink_to("t" * 150)
    os.link(root / "a/file", root / "b/linked")
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chown(root / "b", 3_000_000, 70_000)
    os.chmod(root / "b", 0o2750)
    program = root / "program"
    program.write_bytes(b"x")
    program.chmod(0o4711)
    os.setxattr(program, "security.capability", CAPABILITY)
    os.setxattr(program, "user.note", b"\x00\xff=\n")
    with (root / "sparse").open("wb") as file:
        file.truncate(3 << 20)
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, ns=(5_000_000_000, 5_000_000_000), follow_symlinks=False)


def done(*command: object, given: bytes = b"") -> bytes:
    """What a command writes, which succeeds."""
    words = [str(word) for word in command]
    return subprocess.run(words, input=given, stdout=subprocess.PIPE, check=True, timeout=60).stdout


def plain(store: ImageStore, layer: Layer) -> bytes:
    return done("gzip", "-dc", given=store.content.path(layer.digest).read_bytes())


async def test_equal_directories_give_equal_layers(store: ImageStore, tmp_path: Path) -> None:
    layers = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        furnish(tmp_path / name)
        layers.append(await store.pack(tmp_path / name))
    assert layers[0] == layers[1]
    assert not (tmp_path / "one").exists()
    assert not (tmp_path / "two").exists()
    assert len(leftovers(store._disk.root)) == 2


async def test_the_tree_taken_over_is_what_the_layer_unpacks_to(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir(mode=0o755)
    furnish(tmp_path / "upper")
    before = snapshot(tmp_path / "upper")
    layer = await store.pack(tmp_path / "upper")
    (own,) = store.tree((layer.diff_id,))
    other = await opened(tmp_path / "other")
    (unpacked,) = await prepared(other, plain(store, layer))
    assert snapshot(own) == snapshot(unpacked) == before
    assert unpacked.name == own.name
    for tree in (own, unpacked):
        assert os.getxattr(tree / "program", "security.capability") == CAPABILITY
        assert os.getxattr(tree / "program", "user.note") == b"\x00\xff=\n"
        assert (tree / "a/file").stat().st_ino == (tree / "b/linked").stat().st_ino
        assert (tree / "a/file").stat().st_mtime == 5


async def test_gnu_tar_and_tarfile_read_the_same(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir()
    furnish(tmp_path / "upper")
    before = snapshot(tmp_path / "upper")
    tar = plain(store, await store.pack(tmp_path / "upper"))
    (tmp_path / "gnu").mkdir()
    done("tar", "-xp", "--numeric-owner", "--xattrs", "-C", tmp_path / "gnu", given=tar)
    assert snapshot(tmp_path / "gnu") == before
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened_tar:
        names = [member.name for member in opened_tar]
        assert sorted(names) == sorted(before)
        assert names.index("a-1") > names.index("a/file")
        program = opened_tar.getmember("program")
        assert program.pax_headers["SCHILY.xattr.security.capability"].encode("latin-1", "surrogateescape")


async def test_deletions_and_replaced_directories_are_written_as_whiteouts(
    store: ImageStore, tmp_path: Path
) -> None:
    (below,) = await prepared(
        store, pack(folder("d"), entry("d/x", b"x"), entry("f"), entry("g"), folder("e"), entry("e/y"))
    )
    upper = tmp_path / "upper"
    upper.mkdir()
    with merged(tmp_path / "view", below, upper=upper) as view:
        (view / "f").unlink()
        (view / "g").unlink()  # the kernel may make this whiteout a hard link of the first
        for path in sorted((view / "d").iterdir()):
            path.unlink()
        (view / "d").rmdir()
        (view / "d").mkdir()
        (view / "d" / "new").write_bytes(b"new")
        (view / "e" / "z").write_bytes(b"z")
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(view / "socket"))
    layer = await store.pack(upper, (below,))
    with tarfile.open(fileobj=io.BytesIO(plain(store, layer))) as tar:
        found = {member.name: member.type for member in tar}
    assert sorted(found) == [".wh.f", ".wh.g", "d", "d/.wh..wh..opq", "d/new", "e", "e/z"]
    assert found[".wh.f"] == found[".wh.g"] == tarfile.REGTYPE
    (own,) = store.tree((layer.diff_id,))
    assert not (own / "socket").exists()
    assert [key for key in os.listxattr(own / "d") if key.startswith("trusted.overlay")] == [
        "trusted.overlay.opaque"
    ]
    with merged(tmp_path / "again", own, below) as view:
        assert sorted(str(path.relative_to(view)) for path in view.rglob("*")) == [
            "d", "d/new", "e", "e/y", "e/z",
        ]  # fmt: skip


async def test_times_are_clamped_in_the_layer_and_in_the_tree(store: ImageStore, tmp_path: Path) -> None:
    layers = []
    for name, seconds in (("one", 900), ("two", 950)):
        (tmp_path / name / "d").mkdir(parents=True)
        for path in (tmp_path / name / "d" / "old", tmp_path / name / "d" / "new"):
            path.write_bytes(b"x")
            os.utime(path, (seconds, seconds))
        os.utime(tmp_path / name / "d" / "old", (100, 100))
        layers.append(await store.pack(tmp_path / name, clamp=500.0))
    assert layers[0] == layers[1]
    (tree,) = store.tree((layers[0].diff_id,))
    times = [(tree / name).stat().st_mtime for name in ("d", "d/old", "d/new")]
    assert times == [500, 100, 500]


@pytest.mark.parametrize("key", ["trusted.overlay.redirect", "trusted.overlay.metacopy"])
async def test_an_upper_that_is_no_whole_copy_is_refused(store: ImageStore, tmp_path: Path, key: str) -> None:
    (tmp_path / "upper/d").mkdir(parents=True)
    os.setxattr(tmp_path / "upper/d", key, b"/etc")
    with pytest.raises(Invalid, match="no whole copy"):
        await store.pack(tmp_path / "upper")
    assert leftovers(store._disk.root) == []


async def test_a_file_named_like_a_whiteout_is_refused(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper/.wh.etc").touch()
    with pytest.raises(Invalid, match="cannot be in a layer"):
        await store.pack(tmp_path / "upper")


async def test_an_attribute_that_an_archive_cannot_name_is_refused(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper/file").touch()
    os.setxattr(tmp_path / "upper/file", "user.a=b", b"")
    with pytest.raises(Invalid, match="a layer cannot hold one with a '='"):
        await store.pack(tmp_path / "upper")


async def test_a_full_disk_is_told_and_the_directory_is_still_there(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    done("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place)
    store = await opened(place / "images")
    try:
        (place / "upper").mkdir()
        (place / "upper/big").write_bytes(os.urandom(1200 << 10))
        with pytest.raises(Unavailable, match="no space left for images"):
            await store.pack(place / "upper")
        assert (place / "upper/big").stat().st_size == 1200 << 10
        assert leftovers(place / "images") == []
    finally:
        await store.close()
        done("umount", place)


async def test_shared_layers_are_counted_once(store: ImageStore) -> None:
    base, one, two = (
        pack(entry(name, os.urandom(size))) for name, size in (("b", 50_000), ("1", 9), ("2", 9))
    )
    await store.load(io.BytesIO(archive("one:1", base, one)))
    await store.load(io.BytesIO(archive("two:1", base, two)))
    await store.prepare("one:1")
    used = store.resolve("one:1").digest
    await store.content.put(b"nobody's")
    seen = await store.usage(lambda digest: ["c"] if digest == used else [])
    assert [each.shared for each in seen.images] == [len(base) + 50_000] * 2
    first = next(each for each in seen.images if each.digest == used)
    second = next(each for each in seen.images if each.digest != used)
    assert first.unique == second.unique + 9  # its own layer is unpacked
    assert seen.total == len(base) + 50_000 + first.unique + second.unique
    assert (seen.reclaimable, seen.other) == (second.unique, len(b"nobody's"))
