"""Mounts as a service asks for them: images, recursion, propagation, options, volumes that are filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmd.model.errors import Invalid
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.logs import read_logs
from swarmd.node.runtime.port import Mount
from tests.integration.runtime_rig import Rig, output, running, start, until_line

pytestmark = pytest.mark.root


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
async def runtime(rig: Rig) -> AsyncIterator[LocalRuntime]:
    async with running(rig) as started:
        yield started


@pytest.fixture
def nested(rig: Rig) -> Iterator[Path]:
    """A directory with a file system mounted in it."""
    directory = rig.base / "nested"
    (directory / "below").mkdir(parents=True)
    mount_command("-t", "tmpfs", "x", directory / "below")
    (directory / "below/word").write_text("deep\n")
    yield directory
    subprocess.run(["umount", "-R", "-l", directory / "below"], check=True)


def mount_command(*args: str | Path) -> None:
    subprocess.run(["mount", *args], check=True)


async def test_an_image_is_shown_with_all_its_layers_and_cannot_be_written(
    rig: Rig, runtime: LocalRuntime
) -> None:
    for name, words in (("top", "of the top\n"), ("base", "of the base\n")):
        (rig.base / name).mkdir()
        (rig.base / name / name).write_text(words)
        (rig.base / name / "both").write_text(words)
    mount = Mount(target="/i", kind="image", source=str(rig.base / "top"), layers=(str(rig.base / "base"),))
    script = "cat /i/top /i/base /i/both; touch /i/new 2>/dev/null || echo refused"
    _, text = await output(runtime, rig.shell(script, mounts=(mount,)))
    assert text == "of the top\nof the base\nof the top\nrefused\n"


async def test_a_part_of_an_image_can_be_shown(rig: Rig, runtime: LocalRuntime) -> None:
    for name in ("top", "base"):
        (rig.base / name / "part").mkdir(parents=True)
        (rig.base / name / "part" / name).write_text(f"{name}\n")
    layers = (str(rig.base / "base"),)
    mount = Mount(target="/i", kind="image", source=str(rig.base / "top"), layers=layers, subpath="part")
    _, text = await output(runtime, rig.shell("ls /i", mounts=(mount,)))
    assert text.split() == ["base", "top"]


@pytest.mark.parametrize(
    ("recursive", "readonly", "expected"),
    [
        ("enabled", False, "deep wrote"),
        ("enabled", True, "deep refused"),
        ("writable", True, "deep wrote"),
        ("readonly", True, "deep refused"),
        ("disabled", False, "missing wrote"),
    ],
)
async def test_what_is_mounted_below_comes_along_as_asked(
    rig: Rig, runtime: LocalRuntime, nested: Path, recursive: Any, readonly: bool, expected: str
) -> None:
    mount = Mount(target="/n", source=str(nested), recursive=recursive, readonly=readonly)
    script = (
        "cat /n/below/word 2>/dev/null || echo missing; "
        "touch /n/below/new 2>/dev/null && echo wrote || echo refused; touch /n/top 2>/dev/null && echo top"
    )
    _, text = await output(runtime, rig.shell(script, mounts=(mount,)))
    assert text.split() == [*expected.split(), *(["top"] if not readonly else [])]


@pytest.mark.parametrize(("propagation", "seen"), [("rslave", True), ("rshared", True), ("rprivate", False)])
async def test_what_the_host_mounts_later_is_seen_as_asked(
    rig: Rig, runtime: LocalRuntime, nested: Path, propagation: str, seen: bool
) -> None:
    mount_command("--make-shared", nested / "below")
    (nested / "below/later").mkdir()
    mount = Mount(target="/n", source=str(nested / "below"), propagation=propagation)
    script = "echo up; while [ ! -e /n/go ]; do sleep 0.05; done; ls /n/later; echo end"
    config = rig.shell(script, mounts=(mount,))
    await start(runtime, config)
    await until_line(runtime, config.id, "up")
    later = nested / "below/later"
    mount_command("-t", "tmpfs", "x", later)
    (later / "sign").touch()
    (nested / "below/go").touch()
    await runtime.wait(config.id)
    lines = [line async for line in _lines(runtime, config.id)]
    assert lines == (["up", "sign", "end"] if seen else ["up", "end"])


async def _lines(runtime: LocalRuntime, container_id: str) -> AsyncIterator[str]:
    async for line in read_logs(runtime.container_dir(container_id), follow=True):
        yield line.data.decode().strip()


async def test_options_of_a_tmpfs_are_the_file_systems(rig: Rig, runtime: LocalRuntime) -> None:
    mounts = (
        Mount(target="/one", kind="tmpfs", size=1 << 20, mode=0o711, options=("uid=1000", "nr_inodes=4")),
        Mount(target="/two", kind="tmpfs", options=("exec",)),
    )
    script = (
        "stat -c '%a %u' /one; for n in 1 2 3 4 5; do touch /one/$n 2>/dev/null || echo full; done | "
        "head -1; "
        "cp /bin/busybox /two/true; /two/true && echo ran"
    )
    (rig.image / "bin/cp").symlink_to("busybox")
    _, text = await output(runtime, rig.shell(script, mounts=mounts))
    assert text == "711 1000\nfull\nran\n"
    wrong = rig.config("true", mounts=(Mount(target="/x", kind="tmpfs", options=("no-such-option",)),))
    with pytest.raises(Invalid, match="mounting /x"):
        await runtime.create(wrong)


async def test_only_an_empty_volume_is_filled(rig: Rig, runtime: LocalRuntime) -> None:
    (rig.image / "data/deep").mkdir(parents=True)
    (rig.image / "data/deep/file").write_text("of the image\n")
    (rig.image / "data/link").symlink_to("deep/file")
    (rig.image / "data").chmod(0o750)
    os.chown(rig.image / "data", 12, 34)
    volume = rig.base / "volume"
    volume.mkdir()
    mounts = (Mount(target="/data", source=str(volume), kind="volume", copy_up=True),)
    script = "cat /data/link; stat -c '%a %u %g' /data; echo changed > /data/deep/file"
    _, text = await output(runtime, rig.shell(script, mounts=mounts))
    assert text == "of the image\n750 12 34\n"
    _, text = await output(runtime, rig.shell("cat /data/link", mounts=mounts))
    assert text == "changed\n"


async def test_a_file_can_be_covered_by_a_file_and_not_by_a_directory(
    rig: Rig, runtime: LocalRuntime
) -> None:
    (rig.base / "file").write_text("covered\n")
    (rig.base / "directory").mkdir()
    file = Mount(target="/etc/passwd", source=str(rig.base / "file"), readonly=True)
    assert (await output(runtime, rig.config("cat", "/etc/passwd", mounts=(file,))))[1] == "covered\n"
    wrong = Mount(target="/etc/passwd", source=str(rig.base / "directory"))
    with pytest.raises(Invalid, match="mounting /etc/passwd"):
        await runtime.create(rig.config("true", mounts=(wrong,)))
    missing = Mount(target="/x", source=str(rig.base / "missing"))
    with pytest.raises(Invalid, match="missing: No such file"):
        await runtime.create(rig.config("true", mounts=(missing,)))
