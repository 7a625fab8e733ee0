"""What outlives whom (daemon, spawner, log pump, containers), and what is left in the end: nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from swarmd.kit.ids import new_id
from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import cgroups
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.logs import read_logs
from swarmd.node.runtime.port import ContainerState, Mount
from tests.integration.runtime_rig import (
    Rig,
    as_if_only,
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

DAEMON = """
import asyncio, sys
from pathlib import Path
from swarmd.kit.clock import SystemClock
from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import cgroups
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import ContainerConfig

async def main(data, run, image, mark):
    runtime = LocalRuntime(Path(data), Path(run), SystemClock(), print)
    await runtime.start_up()
    for name, script in {
        "later": "echo up; while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 23",
        "soon": "while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 5",
    }.items():
        config = ContainerConfig(id=name + mark, lower_dirs=(image,), args=("sh", "-c", script))
        await runtime.create(config)
        await runtime.start(name + mark)
    await runtime.create(ContainerConfig(id="waiting" + mark, lower_dirs=(image,), args=("true",)))
    print(runtime.inspect("soon" + mark).pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
async def runtime(rig: Rig) -> AsyncIterator[LocalRuntime]:
    async with running(rig) as started:
        yield started


async def test_containers_outlive_a_killed_daemon(rig: Rig) -> None:
    mark = new_id()  # others may run this test on the same machine
    later, soon, waiting = "later" + mark, "soon" + mark, "waiting" + mark
    command = [sys.executable, "-c", DAEMON, str(rig.data), str(rig.run), str(rig.image), mark]
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert daemon.stdout is not None
    to_end = int(daemon.stdout.readline())
    spawner = pid_of(rig, "spawnd.py")
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    Path(f"/proc/{to_end}/root/tmp/go").touch()
    await eventually((rig.run / "ctr" / soon / "exit").exists)  # it ends while nobody listens

    async with running(rig) as runtime:
        assert pid_of(rig, "spawnd.py") == spawner
        states = {state.id: state for state in runtime.list()}
        assert states[later].status == "running"
        assert states[waiting].status == "created"
        assert (states[soon].status, states[soon].exit_code) == ("exited", 5)
        assert 0 < states[soon].started_at < states[soon].finished_at
        await runtime.start(waiting)
        assert (await runtime.wait(waiting)).exit_code == 0
        release(runtime, later)
        assert (await runtime.wait(later)).exit_code == 23
        assert await log_text(runtime, later) == "up\n"
        config = runtime.config(later)
        assert config is not None
        assert config.args[0] == "sh"


async def test_an_end_is_reported_again_only_until_it_is_known(rig: Rig) -> None:
    first = rig.runtime()
    await first.start_up()
    config = rig.shell("exit 4")
    await start(first, config)
    await first.wait(config.id)
    await eventually(lambda: not (rig.run / f"ctr/{config.id}/exit").exists())
    await first.shut_down(stop_containers=False)
    async with running(rig) as second:
        state = second.inspect(config.id)
        assert state is not None
        assert (state.status, state.exit_code) == ("exited", 4)


async def test_containers_outlive_a_killed_spawner(rig: Rig, runtime: LocalRuntime) -> None:
    script = "trap 'echo still; exit 6' TERM; echo up; while :; do sleep 0.05; done"
    config, other, waiting = rig.shell(script), rig.shell("sleep 1000"), rig.config("true")
    await start(runtime, config)
    await start(runtime, other)
    await until_line(runtime, config.id, "up")
    await runtime.create(waiting)
    old = pid_of(rig, "spawnd.py")
    end(old)
    await eventually(lambda: pid_of(rig, "spawnd.py") not in (0, old))
    state, text = await output(runtime, rig.shell("echo new"))
    assert (state.exit_code, text) == (0, "new\n")
    assert (await runtime.stop(config.id, grace=30)).exit_code == 6
    assert await log_text(runtime, config.id) == "up\nstill\n"
    assert (await runtime.stop(other.id, grace=0)).exit_code == 137
    assert "before its program was started" in (await runtime.wait(waiting.id)).error


async def test_no_output_is_lost_with_a_killed_log_pump(rig: Rig, runtime: LocalRuntime) -> None:
    script = "echo first; while [ ! -e /tmp/go ]; do sleep 0.05; done; seq 1 2000; echo last >&2"
    config = rig.shell(script)
    await start(runtime, config)
    await until_line(runtime, config.id, "first")
    await until_pumped(rig, config.id)
    old = pid_of(rig, "logd.py")
    end(old)
    release(runtime, config.id)
    assert (await runtime.wait(config.id)).exit_code == 0
    text = await log_text(runtime, config.id)
    assert sorted(text.split()) == sorted(["first", "last", *(str(number) for number in range(1, 2001))])
    assert pid_of(rig, "logd.py") not in (0, old)


async def unseen_end(rig: Rig, pinned: bool) -> ContainerState:
    """A container is killed while no process of ours lives."""
    first = rig.runtime()
    await first.start_up()
    config = rig.shell("sleep 1000")
    pid = await start(first, config)
    await first.shut_down(stop_containers=False)
    end(pid_of(rig, "spawnd.py"))
    end(pid_of(rig, "logd.py"))
    if not pinned:
        subprocess.run(["umount", "-l", rig.run / "keep"], check=True)  # noqa: ASYNC221
    end(pid)
    await eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    async with running(rig) as second:
        state = second.inspect(config.id)
        assert state is not None
        return state


async def test_an_end_that_no_process_of_ours_saw_is_known_from_the_kernel(rig: Rig) -> None:
    state = await unseen_end(rig, pinned=True)
    assert (state.status, state.exit_code, state.error) == ("exited", 137, "")


async def test_where_the_kernel_keeps_no_ends_they_are_said_to_be_lost(rig: Rig) -> None:
    state = await unseen_end(rig, pinned=False)
    assert (state.status, state.exit_code) == ("exited", 255)
    assert "was not seen" in state.error


async def test_half_made_containers_are_cleared_at_start(rig: Rig) -> None:
    (rig.data / "containers/half/upper").mkdir(parents=True)
    (rig.run / "ctr/other").mkdir(parents=True)
    async with running(rig) as runtime:
        assert runtime.list() == []
        assert list((rig.data / "containers").iterdir()) == []
        assert list((rig.run / "ctr").iterdir()) == []


async def test_logs_are_tailed_and_rotated(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("seq 1 30000; echo error >&2", log_max_size=64 * 1024, log_max_files=2)
    await start(runtime, config)
    await runtime.wait(config.id)
    await log_text(runtime, config.id)  # now it has all been written: nothing is rotated away any more
    kept = (await log_text(runtime, config.id)).split()
    assert 5000 < len(kept) < 30001
    directory = runtime.container_dir(config.id)
    files = sorted(path.stat().st_size for path in (directory / "log").iterdir())
    assert len(files) == 2
    assert files[-1] <= 64 * 1024 + 20
    tail = [line async for line in read_logs(directory, tail=3, follow=True)]
    assert b"".join(line.data for line in tail).decode().split() == kept[-3:]
    middle = [line async for line in read_logs(directory, tail=9000)]
    assert [line.data.decode().strip() for line in middle] == kept[-9000:]
    assert [line async for line in read_logs(directory, since=tail[-1].time + 1)] == []


async def test_a_follower_sees_lines_as_they_come_and_the_end(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("echo one; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo two; printf three")
    await start(runtime, config)
    seen = []
    async for line in read_logs(runtime.container_dir(config.id), follow=True):
        seen.append((line.stream, line.data))
        if line.data == b"one\n":
            release(runtime, config.id)
    assert seen == [("stdout", b"one\n"), ("stdout", b"two\n"), ("stdout", b"three")]


async def test_a_follower_ends_when_the_container_is_removed(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.config("true")
    await runtime.create(config)

    async def follow() -> int:
        return len([line async for line in read_logs(runtime.container_dir(config.id), follow=True)])

    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        following = group.create_task(follow())
        await asyncio.sleep(0)
        await runtime.remove(config.id)
    assert following.result() == 0


async def test_many_at_once_all_end_well(rig: Rig, runtime: LocalRuntime) -> None:
    configs = [rig.shell(f"echo {number}; exit {number}") for number in range(40)]
    ends = await asyncio.gather(*(output(runtime, config) for config in configs))
    assert [(state.exit_code, text) for state, text in ends] == [(n, f"{n}\n") for n in range(40)]


async def test_a_machine_with_only_the_v2_tree_works(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without limits: the v2 tree of a hybrid machine has no controllers to limit with."""
    found = cgroups.discover(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
    only_v2 = cgroups.Cgroups(v1={}, v2=found.v2)
    with as_if_only(only_v2, monkeypatch):
        await in_the_v2_tree(rig, only_v2)


async def in_the_v2_tree(rig: Rig, found: cgroups.Cgroups) -> None:
    async with running(rig) as runtime:
        config = rig.shell("grep ' /sys/fs/cgroup ' /proc/self/mountinfo; cat /proc/self/cgroup; sleep 1000")
        pid = await start(runtime, config)
        await until_line(runtime, config.id, "0::/")
        assert Path(found.v2, "swarmd", config.id, "cgroup.procs").read_text().split()[0] == str(pid)
        assert (await runtime.stats(config.id)).cpu > 0
        await runtime.stop(config.id, grace=0)
        text = await log_text(runtime, config.id)
        assert " - cgroup2 cgroup " in text
        assert "/sys/fs/cgroup ro," in text
        assert text.splitlines()[-1] == "0::/"


async def test_many_starts_leave_the_spawner_and_the_pump_as_they_were(
    rig: Rig, runtime: LocalRuntime
) -> None:
    await asyncio.gather(*(output(runtime, rig.config("true")) for _ in range(10)))
    spawner, pump = pid_of(rig, "spawnd.py"), pid_of(rig, "logd.py")
    await eventually(lambda: "Z" not in states_below(spawner))
    held, before = [len(os.listdir(f"/proc/{pid}/fd")) for pid in (spawner, pump)], mounts(rig)
    size = resident(spawner)
    for _ in range(12):
        await asyncio.gather(*(output(runtime, rig.config("true")) for _ in range(10)))
    for pid, count in zip((spawner, pump), held, strict=True):
        await eventually(partial(has_at_most, pid, count))
    assert mounts(rig) == before
    assert len(os.listdir(f"/proc/{spawner}/task")) == 1
    assert resident(spawner) < size + 512
    assert resident(spawner) < 16 * 1024
    assert list((rig.run / "ctr").iterdir()) == []


def has_at_most(pid: int, count: int) -> bool:
    return len(os.listdir(f"/proc/{pid}/fd")) <= count


def resident(pid: int) -> int:
    """Kilobytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def states_below(pid: int) -> list[str]:
    """Z for a child that is reaped meanwhile, too."""
    states = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            states.append(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0])
        except (FileNotFoundError, ProcessLookupError):
            states.append("Z")
    return states


def mounts(rig: Rig) -> list[str]:
    """Others may mount elsewhere meanwhile."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(rig.base) in line]


async def test_what_cannot_be_created_leaves_nothing(rig: Rig, runtime: LocalRuntime) -> None:
    before = mounts(rig)
    bad = [
        rig.config("true", user="nobody-here"),
        rig.config("true", mounts=(Mount(source=str(rig.base / "missing"), target="/data"),)),
        rig.config("true", mounts=(Mount(source=str(rig.image / "etc"), target="/etc/passwd"),)),
    ]
    for config in bad:
        with pytest.raises(Invalid):
            await runtime.create(config)
        assert cgroup_dirs(runtime, config.id) == []
    assert runtime.list() == []
    assert list((rig.data / "containers").iterdir()) == []
    assert list((rig.run / "ctr").iterdir()) == []
    assert mounts(rig) == before


async def test_removal_takes_everything(rig: Rig, runtime: LocalRuntime) -> None:
    before = mounts(rig)
    configs = [rig.shell("mkdir /a; echo x > /a/b; echo done") for _ in range(6)]
    await asyncio.gather(*(output(runtime, config) for config in configs))
    assert [path for config in configs for path in cgroup_dirs(runtime, config.id)] == []
    assert list((rig.data / "containers").iterdir()) == []
    assert list((rig.run / "ctr").iterdir()) == []
    assert mounts(rig) == before
