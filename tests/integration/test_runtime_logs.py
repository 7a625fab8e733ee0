"""The log pump under floods, on full disks and killed: what is written, what is counted, who waits."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from swarmd.model.errors import Unavailable
from swarmd.node.runtime.local import LocalRuntime
from tests.integration.runtime_rig import (
    Rig,
    cgroup_dirs,
    end,
    eventually,
    log_text,
    output,
    pid_of,
    release,
    running,
    start,
    until_line,
    until_pumped,
)

pytestmark = pytest.mark.root
FLOOD = "echo up; exec yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
async def runtime(rig: Rig) -> AsyncIterator[LocalRuntime]:
    async with running(rig) as started:
        yield started


@pytest.fixture
def small_disk(rig: Rig) -> Iterator[Path]:
    """The data directory is a file system of four megabytes."""
    rig.data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", rig.data], check=True)
    try:
        yield rig.data
    finally:
        subprocess.run(["umount", "-l", rig.data], check=True)


def memory(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))


def sizes_in(directory: Path) -> list[int]:
    """Bytes of each file that is there at one moment: looked at again when one was rotated away meanwhile."""
    while True:
        try:
            return [entry.stat().st_size for entry in os.scandir(directory)]
        except FileNotFoundError:
            continue


async def test_floods_do_not_keep_others_waiting_and_wait_themselves(rig: Rig, runtime: LocalRuntime) -> None:
    floods = [rig.shell(FLOOD, log_max_size=1024 * 1024, log_max_files=2) for _ in range(3)]
    for flood in floods:
        await start(runtime, flood)
        await until_line(runtime, flood.id, "aaa")
    pump = pid_of(rig, "logd.py")
    held, resident = len(os.listdir(f"/proc/{pump}/fd")), memory(pump)
    begin = time.monotonic()
    for number in range(5):
        assert (await output(runtime, rig.shell(f"echo {number}")))[1] == f"{number}\n"
    assert time.monotonic() - begin < 60
    for flood in floods:
        sizes = sizes_in(runtime.container_dir(flood.id) / "log")
        assert 1 <= len(sizes) <= 2
        assert sum(sizes) <= 2 * 1024 * 1024 + 200_000
    await eventually(lambda: len(os.listdir(f"/proc/{pump}/fd")) <= held)
    await eventually(lambda: memory(pump) < resident + 1024)


async def test_on_a_full_disk_containers_run_on_and_the_log_says_what_it_lacks(
    small_disk: Path, rig: Rig
) -> None:
    filler = small_disk / "filler"
    async with running(rig) as runtime:
        script = "echo up; while [ ! -e /tmp/go ]; do sleep 0.05; done; seq 1 3000; read x < /tmp/fifo"
        config = rig.shell(f"{script}; echo after; exit 4")
        await start(runtime, config)
        await until_line(runtime, config.id, "up")
        state = runtime.inspect(config.id)
        assert state is not None
        inside = Path(f"/proc/{state.pid}/root/tmp")
        os.mkfifo(inside / "fifo")
        (inside / "wait").touch()
        fill(filler)
        (inside / "wait").rename(inside / "go")
        await eventually(lambda: "wait_for_partner" in Path(f"/proc/{state.pid}/wchan").read_text())
        await until_pumped(rig, config.id)
        filler.unlink()
        await until_line(runtime, config.id, "could not be written here: No space left on device")
        inside.joinpath("fifo").write_text("\n")
        assert (await runtime.wait(config.id)).exit_code == 4
        text = await log_text(runtime, config.id)
        lost = sum(int(part.split(" ")[0]) for part in text.split("[swarmd: ")[1:])
        said = sum(len(line) + 1 for line in text.splitlines() if "swarmd" not in line)
        assert said + lost == len("up\nafter\n") + sum(len(f"{number}\n") for number in range(1, 3001))
        assert text.endswith("after\n")


async def test_a_container_that_finds_no_room_is_refused_and_leaves_nothing(
    small_disk: Path, rig: Rig
) -> None:
    filler = small_disk / "filler"
    async with running(rig) as runtime:
        await output(runtime, rig.config("true"))
        fill(filler)
        config = rig.config("true")
        with pytest.raises(Unavailable, match="no space left for containers in"):
            await runtime.create(config)
        assert runtime.list() == []
        assert list((rig.data / "containers").iterdir()) == []
        assert list((rig.run / "ctr").iterdir()) == []
        assert cgroup_dirs(runtime, config.id) == []
        filler.unlink()
        assert (await output(runtime, rig.shell("echo room")))[1] == "room\n"


async def test_a_container_whose_layer_is_full_is_told_so_and_its_end_is_noted(
    small_disk: Path, rig: Rig
) -> None:
    async with running(rig) as runtime:
        script = "dd if=/dev/zero of=/fill bs=64k; sleep 0.1; dd if=/dev/zero of=/fill2 bs=1; exit 9"
        config = rig.shell(script)
        await start(runtime, config)
        assert (await runtime.wait(config.id)).exit_code == 9
        await runtime.remove(config.id)
        assert list((rig.data / "containers").iterdir()) == []


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


async def test_a_pump_killed_under_load_loses_nothing(rig: Rig, runtime: LocalRuntime) -> None:
    count = 400_000
    config = rig.shell(f"while [ ! -e /tmp/go ]; do sleep 0.05; done; seq 1 {count}", log_max_size=0)
    await start(runtime, config)
    await eventually(lambda: pid_of(rig, "logd.py") > 0)
    release(runtime, config.id)
    for _ in range(4):
        old = pid_of(rig, "logd.py")
        await asyncio.sleep(0.05)  # let it pump
        end(old)
        await eventually(lambda: pid_of(rig, "logd.py") not in (0, old))  # noqa: B023
    assert (await runtime.wait(config.id)).exit_code == 0
    numbers = {int(line) for line in (await log_text(runtime, config.id)).split()}
    assert numbers == set(range(1, count + 1))
