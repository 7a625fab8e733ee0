"""Files out of and into containers, and what they changed: running, stopped, and while they fight back."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import stat
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.model.errors import Invalid, NotFound, Refused
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import Mount
from tests.integration.runtime_rig import Rig, running, start, until_line

pytestmark = pytest.mark.root


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
async def runtime(rig: Rig) -> AsyncIterator[LocalRuntime]:
    async with running(rig) as started:
        yield started


async def taken(runtime: LocalRuntime, name: str, path: str, *, follow: bool = False) -> tarfile.TarFile:
    data = b"".join([piece async for piece in runtime.archives.read(name, path, follow=follow)])
    return tarfile.open(fileobj=io.BytesIO(data))


def an_archive(*entries: tuple[str, bytes | str | None], mode: int = 0o644, uid: int = 0) -> bytes:
    """(name, bytes of a file | str a link leads to | None for a directory)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.mode, info.uid, info.gid, info.mtime = mode, uid, uid, 1_000_000_000
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def put(runtime: LocalRuntime, name: str, path: str, data: bytes, *, keep_owners: bool = False) -> None:
    await runtime.archives.write(name, path, pieces(data), keep_owners=keep_owners)


async def test_a_tree_is_copied_out_with_everything_that_makes_a_file(
    rig: Rig, runtime: LocalRuntime
) -> None:
    script = (
        "mkdir -p /data/sub; cd /data; echo hello >a; chmod 4750 a; ln -s /etc/passwd link; "
        "mknod fifo p; touch -d @1000000000 a; echo ready; exec sleep 1000"
    )
    config = rig.shell(script)
    await start(runtime, config)
    await until_line(runtime, config.id, "ready")
    upper = runtime.container_dir(config.id) / "upper/data"
    os.chown(upper / "a", 1000, 2000)
    os.chmod(upper / "a", 0o4750)
    os.link(upper / "a", upper / "sub/same")
    os.setxattr(upper / "a", "user.note", b"\xffraw")
    (upper / "holes").write_bytes(b"")
    os.truncate(upper / "holes", 1 << 30)
    got = await taken(runtime, config.id, "/data")
    assert got.getnames() == [
        "data",
        "data/a",
        "data/fifo",
        "data/holes",
        "data/link",
        "data/sub",
        "data/sub/same",
    ]
    a = got.getmember("data/a")
    assert (a.uid, a.gid, stat.S_IMODE(a.mode), a.mtime) == (1000, 2000, 0o4750, 1_000_000_000)
    assert a.pax_headers["SCHILY.xattr.user.note"].encode("utf-8", "surrogateescape") == b"\xffraw"
    data = got.extractfile(a)
    assert data is not None
    assert data.read() == b"hello\n"
    assert got.getmember("data/link").linkname == "/etc/passwd"
    assert got.getmember("data/fifo").isfifo()
    assert (got.getmember("data/sub/same").islnk(), got.getmember("data/sub/same").linkname) == (
        True,
        "data/a",
    )
    holes = got.getmember("data/holes")
    assert holes.issparse()
    assert holes.size == 1 << 30


async def test_the_top_is_named_as_docker_names_it(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("mkdir /d; touch /d/f; ln -s d /l; echo ready; exec sleep 1000")
    await start(runtime, config)
    await until_line(runtime, config.id, "ready")
    for path, follow, names in (
        ("/d", False, ["d", "d/f"]),
        ("/d/", False, ["d", "d/f"]),
        ("/d/.", False, [".", "./f"]),
        ("/l", False, ["l"]),
        ("/l", True, ["l", "l/f"]),
        ("/d/f", False, ["f"]),
    ):
        assert (await taken(runtime, config.id, path, follow=follow)).getnames() == names, path
    with pytest.raises(NotFound, match="Could not find the file /no in container"):
        await taken(runtime, config.id, "/no")
    found = await runtime.archives.stat(config.id, "/l")
    assert (found.name, stat.S_ISLNK(found.mode), found.link) == ("l", True, "d")
    assert (await runtime.archives.stat(config.id, "/l", follow=True)).is_directory


@pytest.mark.parametrize("state", ["running", "created", "exited"])
async def test_files_go_in_and_come_out_whatever_state_it_is_in(
    rig: Rig, runtime: LocalRuntime, state: str
) -> None:
    config = rig.shell("exec sleep 1000")
    await runtime.create(config)
    if state != "created":
        await runtime.start(config.id)
    if state == "exited":
        await runtime.stop(config.id, grace=0)
    await put(runtime, config.id, "/tmp", an_archive(("in", None), ("in/f", b"x" * 100_000), uid=7))
    got = await taken(runtime, config.id, "/tmp/in")
    f = got.getmember("in/f")
    assert (f.size, f.uid, f.mtime) == (100_000, 0, 1_000_000_000)
    await put(runtime, config.id, "/tmp", an_archive(("own", b"y"), uid=7), keep_owners=True)
    assert (await taken(runtime, config.id, "/tmp/own")).getmember("own").uid == 7
    assert ("A", "/tmp/in/f") in await runtime.archives.diff(config.id)


@pytest.mark.parametrize("state", ["running", "exited"])
async def test_a_volume_is_reached(rig: Rig, runtime: LocalRuntime, state: str) -> None:
    volume, fixed = rig.base / "volume", rig.base / "fixed"
    volume.mkdir()
    fixed.mkdir()
    mounts = (
        Mount(target="/vol", source=str(volume)), Mount(target="/fixed", source=str(fixed), readonly=True),
    )  # fmt: skip
    config = rig.shell("exec sleep 1000", mounts=mounts)
    await start(runtime, config)
    if state == "exited":
        await runtime.stop(config.id, grace=0)
    await put(runtime, config.id, "/vol", an_archive(("f", b"in the volume")))
    assert (volume / "f").read_bytes() == b"in the volume"
    assert (await taken(runtime, config.id, "/vol")).getnames() == ["vol", "vol/f"]
    with pytest.raises(Refused, match="Read-only file system"):
        await put(runtime, config.id, "/fixed", an_archive(("f", b"x")))
    mounted = Path("/proc/self/mountinfo").read_text()
    assert [each for each in (rig.data, volume, fixed) if str(each) in mounted] == []


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ((("../out", b"x"),), "leads out"),
        ((("a/../../out", b"x"),), "leads out"),
        ((("link", "/"), ("link/tmp/out", b"x")), "no directory"),
        ((("dir", None), ("dir", b"x")), "cannot overwrite directory"),
        ((("file", b"x"), ("file", None)), "cannot overwrite non-directory"),
    ],
)
async def test_an_archive_that_leads_elsewhere_is_refused(
    rig: Rig, runtime: LocalRuntime, entries: tuple[tuple[str, bytes | str | None], ...], words: str
) -> None:
    config = rig.shell("exec sleep 1000")
    await start(runtime, config)
    with pytest.raises(Invalid, match=words):
        await put(runtime, config.id, "/tmp", an_archive(*entries))
    assert not (runtime.container_dir(config.id) / "upper/out").exists()


async def test_what_cannot_take_files_says_why(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("exec sleep 1000", read_only=True)
    await start(runtime, config)
    with pytest.raises(Refused, match="Read-only file system"):
        await put(runtime, config.id, "/etc", an_archive(("f", b"x")))
    with pytest.raises(Invalid, match="is not a directory"):
        await put(runtime, config.id, "/etc/passwd", an_archive(("f", b"x")))
    with pytest.raises(NotFound):
        await put(runtime, config.id, "/nowhere", an_archive(("f", b"x")))
    with pytest.raises(Invalid, match="cannot be read"):
        await put(runtime, config.id, "/etc", b"this is no tar" * 100)


async def test_a_sender_that_goes_away_leaves_nobody_waiting(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("exec sleep 1000")
    await start(runtime, config)
    data = an_archive(("f", b"x" * 1_000_000))
    begun = asyncio.Event()

    async def stalls() -> AsyncIterator[bytes]:
        yield data[:50_000]
        begun.set()
        await asyncio.Event().wait()

    for _ in range(20):  # more than there are threads
        copying = asyncio.ensure_future(runtime.archives.write(config.id, "/tmp", stalls()))
        await asyncio.wait_for(begun.wait(), 60)
        begun.clear()
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying
    await put(runtime, config.id, "/tmp", an_archive(("g", b"still works")))


async def test_a_reader_that_goes_away_leaves_nothing_open(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("mkdir /d; yes | head -c 3000000 >/d/f; echo ready; exec sleep 1000")
    await start(runtime, config)
    await until_line(runtime, config.id, "ready")

    async def once() -> None:
        reading = runtime.archives.read(config.id, "/d")
        assert await anext(reading)
        await reading.aclose()
        await runtime.archives.stat(config.id, "/d")

    await once()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        await once()
    for _ in range(6000):  # the threads close behind us
        if len(os.listdir("/proc/self/fd")) <= before:
            break
        await asyncio.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) <= before


SWAPPER = """
mkdir -p /w; cd /w
echo ready
while :; do rm -rf place; ln -s {outside} place; rm place; mkdir place; done
"""


async def test_links_that_are_swapped_meanwhile_never_lead_outside(rig: Rig, runtime: LocalRuntime) -> None:
    """The container replaces a directory by a link to a path that exists on the host alone."""
    outside = rig.base / "outside"
    outside.mkdir()
    (outside / "secret").write_text("of the host")
    config = rig.shell(SWAPPER.format(outside=outside))
    await start(runtime, config)
    await until_line(runtime, config.id, "ready")
    careless = 0
    for number in range(150):
        with contextlib.suppress(Invalid, Refused):
            await put(runtime, config.id, "/w", an_archive(("place", None), (f"place/f{number}", b"x")))
        with contextlib.suppress(NotFound):
            got = await taken(runtime, config.id, "/w/place/.", follow=True)
            assert "./secret" not in got.getnames()
        # The control: who goes by the path on the host does follow the link.
        path = runtime.container_dir(config.id) / "upper/w/place/secret"
        careless += path.exists()
        if careless and number > 50:
            break
    assert sorted(os.listdir(outside)) == ["secret"]
    assert careless, "the attacker never won, so this test could not fail"


async def test_changes_are_told_as_docker_tells_them(rig: Rig, runtime: LocalRuntime) -> None:
    (rig.image / "old").mkdir()
    for name in ("one", "two"):
        (rig.image / "old" / name).write_text(name)
    (rig.image / "keep").mkdir()
    for name in ("changed", "gone", "untouched"):
        (rig.image / "keep" / name).write_text(name)
    script = (
        "rm -r /old; mkdir /old; echo 1 >/old/one; mkdir /new; echo 2 >/new/f; echo 3 >>/keep/changed; "
        "rm /keep/gone; echo ready; exec sleep 1000"
    )
    config = rig.shell(script, mounts=(Mount(target="/mnt/vol", kind="tmpfs"),))
    await start(runtime, config)
    await until_line(runtime, config.id, "ready")
    assert await runtime.archives.diff(config.id) == [
        ("C", "/keep"),
        ("C", "/keep/changed"),
        ("D", "/keep/gone"),
        ("A", "/new"),
        ("A", "/new/f"),
        ("C", "/old"),
        ("C", "/old/one"),
        ("D", "/old/two"),
    ]


async def test_a_container_that_did_nothing_has_no_changes(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("exec sleep 1000", mounts=(Mount(target="/a/b/c", kind="tmpfs"),))
    await start(runtime, config)
    assert await runtime.archives.diff(config.id) == []


async def test_many_layers_are_read_of_a_stopped_container(rig: Rig, runtime: LocalRuntime) -> None:
    layers = [rig.base / f"layer{number}" for number in range(40)]
    for number, layer in enumerate(layers):
        layer.mkdir()
        (layer / f"file{number}").write_text("x")
    config = rig.config("true", lower_dirs=(*map(str, layers), str(rig.image)))
    await runtime.create(config)
    await runtime.stop(config.id, grace=0)
    assert [member.name for member in (await taken(runtime, config.id, "/file39")).getmembers()] == ["file39"]
