"""Containers that take all they can get, and what is left of them: the node goes on, nothing stays behind."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from swarmd.kit.clock import SystemClock
from swarmd.model.errors import Refused, Unavailable
from swarmd.node.runtime import kernfiles
from swarmd.node.runtime.cgroup import CgroupDriver
from swarmd.node.runtime.core import cgroups
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import Device, Limits
from tests.integration.runtime_rig import (
    Rig,
    cgroup_dirs,
    end,
    eventually,
    output,
    release,
    running,
    start,
    until_line,
)

pytestmark = pytest.mark.root

MIB = 1 << 20


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
async def runtime(rig: Rig) -> AsyncIterator[LocalRuntime]:
    async with running(rig) as runtime:
        yield runtime


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host that has nothing to do with any container."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


@asynccontextmanager
async def living(runtime: LocalRuntime, config_id: str) -> AsyncIterator[list[str]]:
    """The container's directories; in the end it has been stopped, removed, and they are gone."""
    directories = cgroup_dirs(runtime, config_id)
    assert len(directories) >= 4
    yield directories
    await runtime.stop(config_id, grace=0)
    await runtime.remove(config_id)
    assert [path for path in directories if os.path.exists(path)] == []


async def three_of_them(runtime: LocalRuntime, container_id: str) -> bool:
    return [process.command.split()[0] for process in await runtime.top(container_id)][1:] == ["sleep"] * 2


# More than the limits below allow, and no more than the machine bears where there is none.
FORKS = "i=0; while [ $i -lt 150 ]; do sleep 1000 & i=$((i+1)); done; echo done; while :; do sleep 1; done"


async def test_a_fork_bomb_is_kept_to_its_limit_and_dies_whole(rig: Rig, runtime: LocalRuntime) -> None:
    bomb = rig.shell(
        "b() { b | b & b; }; (b) 2>/dev/null & exec sleep 1000", limits=Limits(pids=40, memory=128 * MIB)
    )
    await start(runtime, bomb)
    async with living(runtime, bomb.id) as directories:
        group = Path(next(path for path in directories if os.path.exists(f"{path}/pids.max")))
        await eventually(lambda: (group / "pids.events").read_text() != "max 0\n")
        async with asyncio.timeout(120):  # the node starts others meanwhile
            state, text = await output(runtime, rig.shell("echo $((6 * 7))"))
        assert (state.exit_code, text) == (0, "42\n")
        await eventually(lambda: int((group / "pids.peak").read_text()) == 40)


async def test_without_the_limit_the_same_number_can_be_had(rig: Rig, runtime: LocalRuntime) -> None:
    free, kept = rig.shell(FORKS), rig.shell(FORKS, limits=Limits(pids=40))
    await start(runtime, free)
    await until_line(runtime, free.id, "done")
    async with living(runtime, free.id):
        assert (await runtime.stats(free.id)).pids > 150
    await start(runtime, kept)  # its shell gives up when it cannot fork
    assert (await runtime.wait(kept.id)).exit_code != 0
    await runtime.remove(kept.id)


async def test_memory_is_taken_up_to_the_limit_only(rig: Rig, runtime: LocalRuntime) -> None:
    script = "head -c 60000000 /dev/zero | tail -c 60000000 >/dev/null"
    small = Limits(memory=24 * MIB, memory_swap=24 * MIB)
    state, _ = await output(runtime, rig.shell(script, limits=small))
    assert (state.exit_code, state.oom_killed) == (137, True)
    state, _ = await output(runtime, rig.shell(script, limits=Limits(memory=192 * MIB)))
    assert (state.exit_code, state.oom_killed) == (0, False)


async def test_shared_memory_ends_at_its_size_and_counts_as_memory(rig: Rig, runtime: LocalRuntime) -> None:
    fill = "dd if=/dev/zero of=/dev/shm/x bs=1M count={} 2>&1 | tail -n 1"
    state, text = await output(runtime, rig.shell(fill.format(100) + "; wc -c </dev/shm/x"))
    assert "67108864" in text
    assert not state.oom_killed
    limited = rig.shell(fill.format(50), limits=Limits(memory=24 * MIB, memory_swap=24 * MIB))
    state, _ = await output(runtime, limited)
    assert state.oom_killed


async def test_groups_that_a_container_made_itself_are_counted_killed_and_removed(
    rig: Rig, runtime: LocalRuntime
) -> None:
    config = rig.shell("sleep 1000 & sleep 2000; true")
    await start(runtime, config)
    async with living(runtime, config.id) as directories:
        await eventually(lambda: three_of_them(runtime, config.id))
        inner = next(each.pid for each in await runtime.top(config.id) if each.command == "sleep 1000")
        for directory in directories:
            nested = Path(directory, "its", "own")
            nested.mkdir(parents=True)
            (nested / "cgroup.procs").write_text(str(inner))
        assert inner in {process.pid for process in await runtime.top(config.id)}
        assert (await runtime.stats(config.id)).pids == 3
    assert not os.path.exists(f"/proc/{inner}")


async def test_a_kill_in_a_group_it_made_itself_is_known_in_the_end(rig: Rig, runtime: LocalRuntime) -> None:
    bomb = "tail -c 100000000 /dev/zero >/dev/null; echo over; sleep 1000"
    script = f"sh -c 'until [ -e /tmp/go ]; do sleep 0.05; done; {bomb}'; true"
    config = rig.shell(script, limits=Limits(memory=64 * MIB, memory_swap=64 * MIB))
    await start(runtime, config)
    group = Path(control_group(runtime, config.id))
    nested = group / "its"
    nested.mkdir()
    limit = next(name for name in ("memory.limit_in_bytes", "memory.max") if (group / name).exists())
    (nested / limit).write_text(str(16 * MIB))
    inner = await second_shell(runtime, config.id)
    (nested / "cgroup.procs").write_text(str(inner))
    release(runtime, config.id)
    await until_line(runtime, config.id, "over")
    assert (await runtime.stop(config.id, grace=0)).oom_killed


def control_group(runtime: LocalRuntime, container_id: str) -> str:
    groups = runtime._box(container_id).stored.groups
    return groups.v1.get("memory") or groups.v2


async def second_shell(runtime: LocalRuntime, container_id: str) -> int:
    found: list[int] = []

    async def there() -> bool:
        found[:] = [each.pid for each in await runtime.top(container_id) if each.command.startswith("sh")]
        return len(found) == 2

    await eventually(there)
    return found[1]


async def test_a_directory_that_is_busy_at_removal_is_cleared(
    rig: Rig, runtime: LocalRuntime, bystander: subprocess.Popen[bytes]
) -> None:
    config = rig.config("true")
    await start(runtime, config)
    await runtime.wait(config.id)
    directories = cgroup_dirs(runtime, config.id)
    Path(directories[-1], "cgroup.procs").write_text(str(bystander.pid))
    await runtime.remove(config.id)
    assert [path for path in directories if os.path.exists(path)] == []
    assert bystander.wait(timeout=60) == -signal.SIGKILL


async def test_when_any_write_of_its_making_fails_nothing_is_left(
    rig: Rig, runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(memory=64 * MIB, pids=20, cpu_shares=512, cpuset_cpus="0", blkio_weight=300)
    real, left = kernfiles.write, [1 << 30]

    def write(path: str, value: str) -> None:
        left[0] -= not path.endswith("cgroup.event_control")  # it is only for hearing early
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        real(path, value)

    monkeypatch.setattr(kernfiles, "write", write)
    good = rig.config("true", limits=limits)
    await runtime.create(good)
    needed = (1 << 30) - left[0]
    assert needed >= 8
    for allowed in range(needed):
        config = rig.config("true", limits=limits)
        left[0] = allowed
        with pytest.raises((Refused, Unavailable)):
            await runtime.create(config)
        left[0] = 1 << 30
        assert cgroup_dirs(runtime, config.id) == []
        assert not runtime.container_dir(config.id).exists()
    await runtime.start(good.id)
    assert (await runtime.wait(good.id)).exit_code == 0


async def test_what_a_dead_daemon_left_half_made_goes_and_nothing_else(
    rig: Rig, bystander: subprocess.Popen[bytes]
) -> None:
    first = rig.runtime()
    await first.start_up()
    ours, layout = first._groups, first._groups.layout
    others = CgroupDriver(SystemClock(), owner="somebody else")
    made = {
        name: cgroups.place(layout, f"{rig.base.name}-{name}", ()) for name in ("embryo", "used", "other")
    }
    ours.create(made["embryo"], ())
    ours.create(made["used"], ())
    others.create(made["other"], ())
    Path(made["used"].paths()[0], "cgroup.procs").write_text(str(bystander.pid))
    await first.shut_down(stop_containers=False)
    try:
        async with running(rig):
            there = {name for name, groups in made.items() if any(map(os.path.exists, groups.paths()))}
            assert there == {"used", "other"}
    finally:
        end(bystander.pid)
        bystander.wait()
        for groups in made.values():
            await ours.remove(groups)


async def test_a_process_that_went_its_own_way_is_still_accounted(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("(busybox setsid sleep 1000 >/dev/null 2>&1 &); echo up; sleep 2000; true")
    await start(runtime, config)
    await until_line(runtime, config.id, "up")
    async with living(runtime, config.id):
        await eventually(lambda: three_of_them(runtime, config.id))
        commands = sorted(process.command for process in await runtime.top(config.id))
        assert commands[1:] == ["sleep 1000", "sleep 2000"]
        assert (await runtime.stats(config.id)).pids == 3


READ = "mknod /tmp/d b 7 0; head -c 1 /tmp/d >/dev/null && echo read; (: >>/tmp/d) && echo wrote"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"devices": (Device("/dev/loop0", permissions="r"),)}, ["read"]),
        ({"devices": (Device("/dev/loop0"),)}, ["read", "wrote"]),
        ({"device_rules": ("b 7:* r",)}, ["read"]),
        ({"device_rules": ("c 7:* rwm",)}, []),
        ({"privileged": True}, ["read", "wrote"]),
    ],
)
async def test_the_kernel_keeps_a_container_to_its_devices(
    rig: Rig, runtime: LocalRuntime, fields: dict[str, object], expected: list[str]
) -> None:
    if not os.path.exists("/dev/loop0"):
        pytest.skip("this machine has no /dev/loop0 to try it on")
    _, text = await output(runtime, rig.shell(READ, **fields))
    assert [line for line in text.splitlines() if line in ("read", "wrote")] == expected
