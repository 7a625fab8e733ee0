"""Containers that are paused, resumed, changed and measured while they run, against the real kernel."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from swarmd.model.errors import Invalid, NotFound, Refused, Unavailable
from swarmd.node.runtime import freezing, kernfiles
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import Limits, Throttle
from tests.integration.runtime_rig import Rig, eventually, running, start, until_line

pytestmark = pytest.mark.root

MIB = 1 << 20


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
async def runtime(rig: Rig) -> AsyncIterator[LocalRuntime]:
    async with running(rig) as runtime:
        yield runtime


def control(runtime: LocalRuntime, container_id: str, controller: str, file: str) -> str:
    groups = runtime._box(container_id).stored.groups
    directory = groups.v1.get(controller) or groups.v2
    return (Path(directory) / file).read_text().strip()


def counted(rig: Rig, directory: Path) -> int:
    """How often the container of :func:`counter` has gone round."""
    path = directory / "upper" / "count"
    return path.stat().st_size if path.exists() else 0


COUNTER = "trap 'echo got it; exit 3' TERM; echo up; while :; do echo -n x >>/count; sleep 0.01; done"


async def test_a_paused_container_stands_still_and_goes_on(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell(COUNTER)
    await start(runtime, config)
    directory = runtime.container_dir(config.id)
    await eventually(lambda: counted(rig, directory) > 3)
    await runtime.pause(config.id)
    state = runtime.inspect(config.id)
    assert state is not None
    assert (state.status, state.paused) == ("running", True)
    before = counted(rig, directory)
    await asyncio.sleep(0.3)
    assert counted(rig, directory) == before
    with pytest.raises(Refused, match="paused already"):
        await runtime.pause(config.id)
    await runtime.resume(config.id)
    await eventually(lambda: counted(rig, directory) > before)
    with pytest.raises(Refused, match="is not paused"):
        await runtime.resume(config.id)


async def test_of_two_pauses_at_once_one_is_refused(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell(COUNTER)
    await start(runtime, config)
    results = await asyncio.gather(*(runtime.pause(config.id) for _ in range(2)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["NoneType", "Refused"]


async def test_a_paused_container_reacts_to_being_stopped(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell(COUNTER)
    await start(runtime, config)
    await until_line(runtime, config.id, "up")
    await runtime.pause(config.id)
    state = await runtime.stop(config.id, grace=60)
    assert (state.exit_code, state.paused) == (3, False)


async def test_a_paused_container_can_be_signalled_and_killed(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell(COUNTER)
    await start(runtime, config)
    await runtime.pause(config.id)
    await runtime.kill(config.id, "KILL")
    async with asyncio.timeout(60):
        state = await runtime.wait(config.id)
    assert (state.exit_code, state.paused) == (137, False)


async def test_a_daemon_that_comes_back_knows_who_is_paused(rig: Rig) -> None:
    config = rig.shell(COUNTER)
    first = rig.runtime()
    await first.start_up()
    await start(first, config)
    await first.pause(config.id)
    await first.shut_down(stop_containers=False)
    async with running(rig) as second:
        state = second.inspect(config.id)
        assert state is not None
        assert state.paused
        await second.resume(config.id)
        directory = second.container_dir(config.id)
        before = counted(rig, directory)
        await eventually(lambda: counted(rig, directory) > before)


async def test_steps_out_of_order_are_refused(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.config("true")
    await runtime.create(config)
    for step in (runtime.pause, runtime.resume, runtime.top):
        with pytest.raises(Refused):
            await step(config.id)
    await runtime.update(config.id, Limits(pids=50))
    assert control(runtime, config.id, "pids", "pids.max") == "50"
    await runtime.start(config.id)
    await runtime.wait(config.id)
    for step in (runtime.pause, runtime.resume, runtime.top, runtime.stats):
        with pytest.raises(Refused):
            await step(config.id)
    with pytest.raises(Refused, match="has ended"):
        await runtime.update(config.id, Limits())
    with pytest.raises(NotFound):
        await runtime.pause("nobody")


async def test_limits_change_while_it_runs_and_are_remembered(rig: Rig) -> None:
    config = rig.shell("echo up; sleep 1000", limits=Limits(memory=64 * MIB, nano_cpus=500_000_000, pids=10))
    first = rig.runtime()
    await first.start_up()
    await start(first, config)
    for memory in (256 * MIB, 32 * MIB, 0, 64 * MIB):
        wanted = Limits(memory=memory, cpu_shares=300, pids=memory // MIB)
        await first.update(config.id, wanted)
        limit = int(control(first, config.id, "memory", "memory.limit_in_bytes"))
        assert limit == memory if memory else limit > 1 << 60
        assert control(first, config.id, "pids", "pids.max") == (str(memory // MIB) if memory else "max")
    assert control(first, config.id, "cpu", "cpu.cfs_quota_us") == "-1"
    assert control(first, config.id, "cpu", "cpu.shares") == "300"
    await first.shut_down(stop_containers=False)
    async with running(rig) as second:
        found = second.config(config.id)
        assert found is not None
        assert found.limits == wanted


async def test_a_change_that_is_refused_changes_nothing(rig: Rig, runtime: LocalRuntime) -> None:
    before = Limits(memory=64 * MIB, pids=10, cpu_shares=500)
    config = rig.shell("dd if=/dev/zero of=/dev/shm/x bs=1M count=20; echo up; sleep 1000", limits=before)
    await start(runtime, config)
    await until_line(runtime, config.id, "up")
    with pytest.raises(Refused, match=r"uses \d+ bytes now"):
        await runtime.update(config.id, Limits(memory=8 * MIB, pids=20))
    with pytest.raises(Invalid, match="memory 4096"):
        await runtime.update(config.id, Limits(memory=4096))
    with pytest.raises(Refused, match="is not possible here"):  # the kernel's own opinion, after two writes
        await runtime.update(config.id, Limits(memory=128 * MIB, cpu_shares=600, pids=1 << 40))
    assert control(runtime, config.id, "memory", "memory.limit_in_bytes") == str(64 * MIB)
    assert control(runtime, config.id, "cpu", "cpu.shares") == "500"
    assert control(runtime, config.id, "pids", "pids.max") == "10"
    found = runtime.config(config.id)
    assert found is not None
    assert found.limits == before


async def test_every_kind_of_limit_is_there_before_the_program(rig: Rig, runtime: LocalRuntime) -> None:
    limits = Limits(
        memory=64 * MIB, memory_reservation=32 * MIB, swappiness=10, cpu_quota=20_000, cpu_period=50_000,
        cpu_shares=512, cpuset_cpus="1", cpuset_mems="0", pids=33, blkio_weight=300,
    )  # fmt: skip
    config = rig.shell("grep Cpus_allowed_list /proc/self/status; sleep 1000", limits=limits)
    await start(runtime, config)
    await until_line(runtime, config.id, "Cpus_allowed_list:\t1")
    expected = {
        ("memory", "memory.memsw.limit_in_bytes"): str(128 * MIB),
        ("memory", "memory.soft_limit_in_bytes"): str(32 * MIB),
        ("memory", "memory.swappiness"): "10",
        ("cpu", "cpu.cfs_quota_us"): "20000",
        ("cpu", "cpu.cfs_period_us"): "50000",
        ("cpu", "cpu.shares"): "512",
        ("cpuset", "cpuset.cpus"): "1",
        ("pids", "pids.max"): "33",
        ("blkio", "blkio.bfq.weight"): "300",
    }
    assert {key: control(runtime, config.id, *key) for key in expected} == expected


async def test_what_it_uses_is_measured(rig: Rig, runtime: LocalRuntime) -> None:
    script = "sleep 1000 & sleep 1000 & echo up; while :; do :; done"
    config = rig.shell(script, limits=Limits(memory=64 * MIB, pids=20, nano_cpus=10_000_000))
    await start(runtime, config)
    await until_line(runtime, config.id, "up")

    async def throttled() -> bool:
        return (await runtime.stats(config.id)).cpu_throttled > 0

    await eventually(throttled)
    stats = await runtime.stats(config.id)
    assert 0 < stats.memory <= stats.memory_usage <= stats.memory_peak < 64 * MIB == stats.memory_limit
    assert 0 < stats.cpu_user + stats.cpu_system <= stats.cpu + 20_000_000
    assert stats.throttled_periods > 0
    assert (stats.pids, stats.pids_limit) == (3, 20)
    assert stats.network == ()  # nothing but lo in its own namespace


async def test_all_its_processes_are_listed(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("(sleep 1000 &); echo up; exec sleep 2000", user="web")
    pid = await start(runtime, config)
    await until_line(runtime, config.id, "up")

    async def both_sleep() -> bool:  # none is its shell any more
        return [each.command.split()[0] for each in await runtime.top(config.id)] == ["sleep"] * 2

    await eventually(both_sleep)
    first, second = await runtime.top(config.id)
    assert (first.pid, first.command, first.uid) == (pid, "sleep 2000", 1000)
    assert (second.ppid, second.command) == (pid, "sleep 1000")
    assert abs(first.started_at - second.started_at) < 60


async def test_a_killed_child_is_told_while_the_container_runs(rig: Rig, runtime: LocalRuntime) -> None:
    heard: list[tuple[str, int]] = []
    runtime.oom_heard = lambda container_id, kills: heard.append((container_id, kills))
    script = "while :; do sh -c 'exec tail -c 100000000 /dev/zero' >/dev/null; echo again; sleep 1; done"
    config = rig.shell(script, limits=Limits(memory=16 * MIB, memory_swap=16 * MIB))
    await start(runtime, config)
    await eventually(lambda: len(heard) >= 2)
    assert [container_id for container_id, _ in heard[:2]] == [config.id] * 2
    assert heard[0][1] < heard[1][1]
    state = runtime.inspect(config.id)
    assert state is not None
    assert (state.status, state.oom_killed) == ("running", True)
    final = await runtime.stop(config.id, grace=0)
    assert (final.oom_killed, final.exit_code) == (True, 137)


async def test_a_daemon_that_comes_back_knows_who_ran_out_of_memory(rig: Rig) -> None:
    script = "sh -c 'exec tail -c 100000000 /dev/zero' >/dev/null; echo survived; sleep 1000"
    config = rig.shell(script, limits=Limits(memory=16 * MIB, memory_swap=16 * MIB))
    first = rig.runtime()
    await first.start_up()
    await start(first, config)
    await until_line(first, config.id, "survived")
    await first.shut_down(stop_containers=False)
    (rig.data / "containers" / config.id / "state.json").unlink()  # the kernel alone remembers
    async with running(rig) as second:
        state = second.inspect(config.id)
        assert state is not None
        assert (state.status, state.oom_killed) == ("running", True)


def is_in_cpuset_or_over(container_id: str, pid: int) -> bool:
    """One that is about to end is shown in the root of its hierarchies."""
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return f"/swarmd/{container_id}\n" in text.partition(":cpuset:")[2]


async def test_a_running_container_can_be_given_fewer_cpus(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("sleep 1000 & while :; do (true); done")
    pid = await start(runtime, config)
    assert "cpuset" not in runtime._box(config.id).stored.groups.v1
    await runtime.update(config.id, Limits(cpuset_cpus="1"))
    assert os.sched_getaffinity(pid) == {1}
    for process in await runtime.top(config.id):
        await eventually(partial(is_in_cpuset_or_over, config.id, process.pid))
    assert not runtime.inspect(config.id).paused  # type: ignore[union-attr]
    await runtime.update(config.id, Limits())
    assert len(os.sched_getaffinity(pid)) == os.cpu_count()
    directory = runtime._box(config.id).stored.groups.v1["cpuset"]
    await runtime.stop(config.id, grace=0)
    await runtime.remove(config.id)
    assert not os.path.exists(directory)


async def test_a_container_that_cannot_be_widened_is_left_as_it_was(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell(COUNTER)
    pid = await start(runtime, config)
    before = runtime._box(config.id).stored
    taken = Path(runtime._groups.layout.v1["cpuset"], "swarmd", config.id)
    taken.mkdir(parents=True)
    with pytest.raises(Unavailable, match="cannot move"):
        await runtime.update(config.id, Limits(cpuset_cpus="1"))
    assert runtime._box(config.id).stored == before
    assert len(os.sched_getaffinity(pid)) == os.cpu_count()
    assert not taken.exists()
    await runtime.update(config.id, Limits(cpuset_cpus="1"))
    assert os.sched_getaffinity(pid) == {1}


async def test_a_container_that_does_not_stand_still_in_time_goes_on(
    rig: Rig, runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = rig.shell(COUNTER)
    await start(runtime, config)
    directory = runtime.container_dir(config.id)
    monkeypatch.setattr(freezing, "_PATIENCE", 0.05)
    never = SimpleNamespace(write=kernfiles.write, read=lambda path: "frozen 0")
    monkeypatch.setattr(freezing, "kernfiles", never)
    with pytest.raises(Unavailable, match="do not react"):
        await runtime.pause(config.id)
    state = runtime.inspect(config.id)
    assert state is not None
    assert not state.paused
    before = counted(rig, directory)
    await eventually(lambda: counted(rig, directory) > before)


def disk_below(path: Path) -> str:
    """The whole disk a path is on, as a device; skips where the file system has none of its own."""
    device = os.stat(path).st_dev
    place = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    place = place.parent if (place / "partition").exists() else place
    if not os.major(device) or not Path("/dev", place.name).is_block_device():
        pytest.skip(f"{path} is on no disk of its own, whose rate could be limited")
    return f"/dev/{place.name}"


async def test_a_disk_is_throttled_and_what_went_to_it_counted(rig: Rig, runtime: LocalRuntime) -> None:
    disk = disk_below(rig.base)
    script = "dd if=/dev/zero of=/file bs=64k count=32 oflag=direct 2>/dev/null; echo done; sleep 1000"
    slow = Limits(write_bps=(Throttle(disk, MIB),), read_iops=(Throttle(disk, 1000),))
    took = []
    for limits in (Limits(), slow):
        config = rig.shell(script, limits=limits)
        begun = asyncio.get_running_loop().time()
        await start(runtime, config)
        await until_line(runtime, config.id, "done")
        took.append(asyncio.get_running_loop().time() - begun)
    used = (await runtime.stats(config.id)).io
    number = os.stat(disk).st_rdev
    (use,) = [each for each in used if each.device == f"{os.major(number)}:{os.minor(number)}"]
    assert use.write_bytes >= 2 * MIB
    assert use.writes >= 2
    assert took[1] > 1.4  # two seconds' worth, of which the first part is given in advance
    await runtime.update(config.id, Limits())
    assert control(runtime, config.id, "blkio", "blkio.throttle.write_bps_device") == ""
