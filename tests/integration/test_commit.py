"""Images made of containers, on a real runtime and a real store."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from swarmd.image.store import ImageStore
from swarmd.kit.clock import SystemClock
from swarmd.kit.ids import new_id
from swarmd.kit.tree import ids
from swarmd.model.errors import Invalid, NotFound, Refused
from swarmd.model.spec import ContainerSpec
from swarmd.node.containers.commit import Committer, Wanted
from swarmd.node.runtime.committing import copy_layer
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import ContainerConfig, Mount
from tests.integration.image_rig import merged, nobody
from tests.integration.runtime_rig import Rig, failed, output, start, until_line

pytestmark = pytest.mark.root

CHANGES = r"""
echo new >/new; ln /new /new2; rm /bin/tail; rm -r /etc; mkdir /etc; echo only >/etc/x
mkdir -p /a/b; touch /a/b/c; chmod 4711 /a/b/c; chmod 700 /tmp; mkfifo /pipe; echo 1 >/tmpfs/file
ln -s /x /link
truncate -s 1048576 /hole; echo end >>/hole
echo ready; exec sleep 1000
"""


class Bench:
    """A node's runtime and store with the image "base:1"; what was committed, and how often others heard."""

    def __init__(self, rig: Rig, runtime: LocalRuntime, images: ImageStore) -> None:
        self.rig = rig
        self.runtime = runtime
        self.images = images
        self.heard = 0
        self.made_of: dict[str, tuple[str, ContainerSpec]] = {}
        self.committer = Committer(
            runtime, runtime.archives, images, SystemClock(),
            work=rig.data / "commits", asked=self.made_of.get, changed=self._hear,
        )  # fmt: skip

    def _hear(self) -> None:
        self.heard += 1

    async def container(
        self, script: str, *, image: str = "base:1", mounts: tuple[Mount, ...] = (), **spec: object
    ) -> ContainerConfig:
        """One of ``image`` that runs ``script``, not made yet."""
        rootfs = await self.images.prepare(image)
        args = ("sh", "-c", script)
        config = self.rig.config(
            *args, id=new_id(), lower_dirs=rootfs.layers, mounts=mounts,
            env=("PATH=/bin", "HOSTNAME=made-up", "KEY=value"),
            labels={"kind": "base", "com.docker.swarm.task.id": "t1"},
        )  # fmt: skip
        asked = ContainerSpec(image=image, args=args, env=("KEY=value",), **spec)  # type: ignore[arg-type]
        self.made_of[config.id] = (rootfs.digest, asked)
        return config

    def document(self, ref: str) -> dict[str, object]:
        """The configuration of an image."""
        found: dict[str, object] = json.loads(self.images.blob_path(self.images.resolve(ref).id).read_bytes())
        return found


@asynccontextmanager
async def bench(base: Path, *, remap: tuple[int, int] = (0, 0)) -> AsyncIterator[Bench]:
    rig = Rig(base)
    runtime = LocalRuntime(rig.data, rig.run, SystemClock(), failed, remap=remap)
    images = ImageStore(rig.data / "images", SystemClock())
    await images.open()
    await runtime.start_up()
    tar = base / "base.tar"
    words = ["tar", "-C", rig.image, "--owner=0", "--group=0", "-cf", tar, "."]
    await asyncio.to_thread(subprocess.run, words, check=True)
    with tar.open("rb") as file:
        await images.import_rootfs(file, "base:1", ('CMD ["sh"]', "LABEL kind=base", "ENV PATH=/bin"))
    try:
        yield Bench(rig, runtime, images)
    finally:
        for state in runtime.list():
            await runtime.stop(state.id, grace=0)
            await runtime.remove(state.id)
        await runtime.shut_down(stop_containers=True)
        await images.close()


async def test_an_image_has_what_its_container_changed_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as it:
        config = await it.container(CHANGES, mounts=(Mount(target="/tmpfs", kind="tmpfs"),))
        await start(it.runtime, config)
        await until_line(it.runtime, config.id, "ready")
        told = await it.runtime.archives.diff(config.id)
        stood_still = []
        copy = it.runtime.archives.copy_changes

        async def watched(container_id: str, target: Path) -> bool:
            state = it.runtime.inspect(container_id)
            stood_still.append(state is not None and state.paused)
            return await copy(container_id, target)

        monkeypatch.setattr(it.runtime.archives, "copy_changes", watched)
        made = await it.committer.commit(
            config.id,
            Wanted(
                image="made:1", author="Ann", message="a message", changes=('CMD ["cat", "/new"]', "ENV X=1")
            ),
        )
        state = it.runtime.inspect(config.id)
        assert state is not None
        assert (stood_still, state.status, state.paused) == ([True], "running", False)
        assert await it.runtime.archives.diff(config.id) == told
        assert it.heard == 1
        assert list((it.rig.data / "commits").iterdir()) == []

        document = it.document("made:1")
        assert document["config"] == {
            "Env": ["PATH=/bin", "KEY=value", "X=1"], "Cmd": ["cat", "/new"], "Labels": {"kind": "base"},
        }  # fmt: skip
        base, step = document["history"]  # type: ignore[misc]
        assert (base["comment"], step["comment"], step["author"]) == ("Imported from -", "a message", "Ann")
        assert step["created_by"].startswith("sh -c \necho new >/new")
        assert it.images.resolve("made:1").id == made

        top = Path((await it.images.prepare("made:1")).layers[0])
        names = {str(path.relative_to(top)) for path in top.rglob("*")}
        assert names == {
            "new", "new2", "bin", "bin/tail", "etc", "etc/x", "a", "a/b", "a/b/c", "tmp", "pipe", "link",
            "hole",
        }  # fmt: skip
        assert os.stat(top / "hole").st_blocks * 512 < 1048576
        assert (top / "new").stat().st_ino == (top / "new2").stat().st_ino
        assert stat.S_IMODE((top / "a/b/c").stat().st_mode) == 0o4711
        assert stat.S_ISFIFO((top / "pipe").lstat().st_mode)

        script = "exec 2>&1; cat /new /etc/x; ls /etc /bin/tail; stat -c %a /tmp; ls -d /tmpfs; wc -c </hole"
        _, text = await output(it.runtime, await it.container(script, image="made:1"))
        assert text.splitlines() == [
            "new", "only", "ls: /bin/tail: No such file or directory", "/etc:", "x", "700",
            "ls: /tmpfs: No such file or directory", "1048580",
        ]  # fmt: skip


async def test_a_container_that_ended_and_changed_nothing_is_its_image_with_another_configuration(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path) as it:
        config = await it.container("true", user="web", workdir="/tmp")
        await start(it.runtime, config)
        await it.runtime.wait(config.id)
        await it.committer.commit(config.id, Wanted(image="same:1", pause=False))
        document = it.document("same:1")
        assert document["rootfs"] == it.document("base:1")["rootfs"]
        step = document["history"][-1]  # type: ignore[index]
        assert step["empty_layer"] is True
        shown = document["config"]
        assert isinstance(shown, dict)
        assert (shown["User"], shown["WorkingDir"], shown["Cmd"]) == ("web", "/tmp", ["sh", "-c", "true"])


async def test_owners_are_those_that_the_container_sees(tmp_path: Path) -> None:
    async with bench(tmp_path, remap=(100_000, 65_536)) as it:
        config = await it.container("echo x >/root-s; echo y >/web-s; chown 1000:1000 /web-s /etc/passwd")
        await start(it.runtime, config)
        await it.runtime.wait(config.id)
        await it.committer.commit(config.id, Wanted(image="made:1"))
        top = Path((await it.images.prepare("made:1")).layers[0])
        owners = {name: (top / name).lstat().st_uid for name in ("root-s", "web-s", "etc/passwd", "etc")}
        assert owners == {"root-s": 0, "web-s": 1000, "etc/passwd": 1000, "etc": 0}


async def test_what_cannot_be_committed_is_refused_in_words(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        config = await it.container("exec sleep 1000")
        await start(it.runtime, config)
        with pytest.raises(NotFound, match="No such container: ghost"):
            await it.committer.commit("ghost", Wanted())
        with pytest.raises(Invalid, match="is not a valid change command"):
            await it.committer.commit(config.id, Wanted(changes=("BOGUS x",)))
        with pytest.raises(Invalid, match="refusing to create a tag with a digest reference"):
            await it.committer.commit(config.id, Wanted(image=f"x@sha256:{'0' * 64}"))
        _, asked = it.made_of[config.id]
        it.made_of[config.id] = ("base:1", asked)
        other = await it.container("echo x >/x")
        await start(it.runtime, other)
        await it.runtime.wait(other.id)
        await it.committer.commit(other.id, Wanted(image="base:1"))
        with pytest.raises(Refused, match="was changed since it was made"):
            await it.committer.commit(config.id, Wanted())
        it.made_of[config.id] = ("gone:1", asked)
        with pytest.raises(NotFound, match="not on this node any more"):
            await it.committer.commit(config.id, Wanted())
        assert [len(info.refs) for info in it.images.list()] == [1, 0]


async def test_what_images_share_counts_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        base = it.images.resolve("base:1")
        config = await it.container("head -c 100000 /dev/zero >/x")
        await start(it.runtime, config)
        await it.runtime.wait(config.id)
        await it.committer.commit(config.id, Wanted(image="made:1"))
        made = it.images.resolve("made:1")
        usage = await it.images.usage(lambda digest: ["box"] if digest == base.digest else [])
        one, two = ({each.digest: each for each in usage.images}[each.digest] for each in (base, made))
        assert one.shared > one.size * 0.9
        assert 50_000 < two.unique < 1_000_000
        assert usage.total == one.size + two.unique
        assert usage.reclaimable == two.unique
        assert (await it.images.usage(nobody)).reclaimable == usage.total
        await it.images.remove("made:1", in_use=nobody)
        assert (await it.images.usage(nobody)).total == one.size


def test_a_copy_is_what_overlayfs_shows_in_the_same_place(tmp_path: Path) -> None:
    lower, upper, copy = (tmp_path / name for name in ("lower", "upper", "copy"))
    for directory in (lower / "d", upper, copy):
        directory.mkdir(parents=True)
    for name in ("one", "two", "three", "d/old", "kept"):
        (lower / name).write_text("below")
    with merged(tmp_path / "view", lower, upper=upper) as view:
        for name in ("one", "two", "three"):
            (view / name).unlink()
        shutil.rmtree(view / "d")
        (view / "d").mkdir(mode=0o750)
        (view / "d/new").write_bytes(b"x" * 70_000)
        os.setxattr(view / "d/new", "user.note", b"\0\xff")
        os.chown(view / "d/new", 7, 8)
        os.utime(view / "d/new", ns=(1, 1_234_567_890_123_456_789))
        os.mknod(view / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (view / "here").symlink_to("/nowhere/at/all")
        (view / "left-out").write_text("a file for a mount")
        os.mknod(view / "s", stat.S_IFSOCK | 0o600)
    kept = {"/one", "/two", "/three", "/d", "/d/new", "/null", "/here", "/s"}
    copy_layer(upper, copy, kept, ids.UNCHANGED)
    assert {str(path.relative_to(copy)) for path in copy.rglob("*")} == {each[1:] for each in kept - {"/s"}}
    with merged(tmp_path / "again", copy, lower) as again:
        assert sorted(os.listdir(again)) == ["d", "here", "kept", "null"]
        assert os.listdir(again / "d") == ["new"]
        seen = (again / "d/new").stat()
        assert (seen.st_size, seen.st_uid, seen.st_gid, seen.st_mtime_ns) == (
            70_000, 7, 8, 1_234_567_890_123_456_789
        )  # fmt: skip
        assert os.getxattr(again / "d/new", "user.note") == b"\0\xff"
        assert (again / "null").stat().st_rdev == os.makedev(1, 3)
        assert os.readlink(again / "here") == "/nowhere/at/all"
        assert stat.S_IMODE((again / "d").stat().st_mode) == 0o750


async def test_only_the_images_asked_for_are_pruned(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await it.images.tag("base:1", "kept:1")
        report = await it.images.gc(nobody, untagged=True, everything=True, among=())
        assert report.removals == ()
        digest = it.images.resolve("base:1").digest
        report = await it.images.gc(nobody, untagged=True, everything=True, among={digest})
        assert {removal.untagged for removal in report.removals} >= {"base:1", "kept:1"}
        assert it.images.list() == []


async def test_a_crash_in_the_middle_leaves_nothing_and_nobody_standing_still(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        config = await it.container("exec sleep 1000")
        await start(it.runtime, config)
        await it.runtime.pause(config.id)
        half = it.rig.data / "commits/half"
        await asyncio.to_thread((half / "upper").mkdir, parents=True)
        await asyncio.to_thread((half / "stands-still").write_text, config.id)
        await it.committer.open()
        state = it.runtime.inspect(config.id)
        assert state is not None
        assert (state.status, state.paused) == ("running", False)
        assert not (it.rig.data / "commits").exists()
        await it.committer.open()
