"""The same containers in three layouts of cgroups: as this machine has it, with v1 alone, with v2 alone."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import cgroups
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import Device, Limits
from tests.integration.runtime_rig import (
    Rig,
    as_if_only,
    cgroup_dirs,
    eventually,
    output,
    running,
    start,
    until_line,
)

pytestmark = pytest.mark.root

MIB = 1 << 20
FOUND = cgroups.discover(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
LAYOUTS = {
    "as it is": FOUND,
    "v1": cgroups.Cgroups(v1=FOUND.v1, v2="", v1_mounts=FOUND.v1_mounts),
    "v2": cgroups.Cgroups(v1={}, v2=FOUND.v2),
}


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture(params=LAYOUTS)
async def runtime(
    rig: Rig, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LocalRuntime]:
    """Only what is in the layout is used, so that nothing of the other tree can help."""
    layout = LAYOUTS[request.param]
    if not layout.v1 and not layout.v2:
        pytest.skip(f"this machine has no cgroup {request.param}")
    with as_if_only(layout, monkeypatch):
        async with running(rig) as runtime:
            yield runtime


def counted(runtime: LocalRuntime, container_id: str) -> int:
    path = runtime.container_dir(container_id) / "upper" / "count"
    return path.stat().st_size if path.exists() else 0


COUNTER = "trap 'exit 3' TERM; echo up; while :; do echo -n x >>/count; sleep 0.01; done"


async def test_a_container_is_paused_resumed_and_stopped_while_paused(
    rig: Rig, runtime: LocalRuntime
) -> None:
    config = rig.shell(COUNTER)
    await start(runtime, config)
    await eventually(lambda: counted(runtime, config.id) > 3)
    await runtime.pause(config.id)
    assert {process.state for process in await runtime.top(config.id)} <= {"S", "D", "R"}
    before = counted(runtime, config.id)
    state, _ = await output(runtime, rig.shell("sleep 0.2"))  # time goes by
    assert state.exit_code == 0
    assert counted(runtime, config.id) == before
    await runtime.resume(config.id)
    await eventually(lambda: counted(runtime, config.id) > before)
    await runtime.pause(config.id)
    assert (await runtime.stop(config.id, grace=60)).exit_code == 3


async def test_a_paused_container_is_killed_whole_and_leaves_nothing(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("trap '' TERM; sleep 1000 & sleep 2000 & echo up; wait")
    await start(runtime, config)
    await until_line(runtime, config.id, "up")
    await runtime.pause(config.id)
    found = [process.pid for process in await runtime.top(config.id)]
    assert len(found) == 3
    assert (await runtime.stop(config.id, grace=0)).exit_code == 137
    directories = cgroup_dirs(runtime, config.id)
    await runtime.remove(config.id)
    assert directories != []
    assert [path for path in directories if os.path.exists(path)] == []
    assert [pid for pid in found if os.path.exists(f"/proc/{pid}")] == []


async def test_its_cpu_time_is_measured(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo up; sleep 1000")
    await start(runtime, config)
    await until_line(runtime, config.id, "up")
    stats = await runtime.stats(config.id)
    assert stats.cpu > 1_000_000
    assert 0 < stats.cpu_user + stats.cpu_system <= stats.cpu + 20_000_000  # v1 counts in hundredths


async def test_only_its_devices_can_be_used(rig: Rig, runtime: LocalRuntime) -> None:
    if not os.path.exists("/dev/loop0"):
        pytest.skip("this machine has no /dev/loop0 to try it on")
    script = "mknod /tmp/d b 7 0; echo a >/dev/null && head -c 1 /tmp/d >/dev/null && echo read; true"
    for devices, expected in (((), ""), ((Device("/dev/loop0", permissions="r"),), "read\n")):
        _, text = await output(runtime, rig.shell(script, devices=devices))
        assert text.replace("head: /tmp/d: Operation not permitted\n", "") == expected


async def test_limits_are_kept_or_refused(rig: Rig, runtime: LocalRuntime) -> None:
    small = Limits(memory=24 * MIB, memory_swap=24 * MIB)
    config = rig.shell("head -c 60000000 /dev/zero | tail -c 60000000 >/dev/null", limits=small)
    if "memory" in runtime._groups.layout.v1 or "memory.max" in runtime._groups.facts.files:
        state, _ = await output(runtime, config)
        assert (state.exit_code, state.oom_killed) == (137, True)
    else:  # the v2 tree of a hybrid machine
        with pytest.raises(
            Invalid, match=r"memory.limit 25165824: .* no memory.limit_in_bytes nor memory.max"
        ):
            await runtime.create(config)
        assert runtime.inspect(config.id) is None


async def test_a_daemon_in_real_time_runs_containers_that_are_not(rig: Rig) -> None:
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        async with running(rig) as runtime:
            config = rig.shell("sleep 1000")
            pid = await start(runtime, config)
            assert os.sched_getscheduler(pid) == os.SCHED_OTHER
    finally:
        os.sched_setscheduler(0, *before)
