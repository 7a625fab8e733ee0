"""Containers that crun, runc or runsc run for us: life, logs, limits and exit codes as with our own."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.kit.clock import SystemClock
from swarmd.model.errors import Invalid, Refused
from swarmd.node.runtime import driver_oci
from swarmd.node.runtime.core.exits import StartFailed
from swarmd.node.runtime.exec_port import ExecConfig
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import Limits, Mount
from swarmd.node.runtime.sessions import run
from tests.integration.runtime_rig import (
    Rig,
    cgroup_dirs,
    eventually,
    failed,
    output,
    running,
    start,
    until_line,
)

pytestmark = pytest.mark.root


@pytest.fixture(params=["crun", "runc", "runsc"])
def name(request: pytest.FixtureRequest) -> str:
    program = str(request.param)
    if shutil.which(program, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") is None:
        pytest.skip(f"{program} is not installed: apt-get install {program}")
    return program


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
async def runtime(rig: Rig) -> AsyncIterator[LocalRuntime]:
    async with running(rig) as started:
        yield started


async def test_output_and_exit_code(rig: Rig, runtime: LocalRuntime, name: str) -> None:
    config = rig.shell("echo out; echo err >&2; id -u; pwd; exit 7", runtime=name, cwd="/tmp", user="web")
    state, text = await output(runtime, config)
    assert state.exit_code == 7, text
    assert {"out", "err", "1000", "/tmp"} <= set(text.split())
    assert cgroup_dirs(runtime, config.id) == []
    assert not (rig.data / "containers" / config.id).exists()


async def test_a_life_with_pause_limits_and_statistics(rig: Rig, runtime: LocalRuntime, name: str) -> None:
    limits = Limits(memory=256 << 20, pids=200)
    config = rig.shell("echo begun; exec sleep 1000", runtime=name, limits=limits)
    pid = await start(runtime, config)
    await until_line(runtime, config.id, "begun")
    state = runtime.inspect(config.id)
    assert state is not None
    assert (state.status, state.pid) == ("running", pid)
    stats = await runtime.stats(config.id)
    assert stats.memory > 0
    assert stats.pids >= 2  # its parent is counted too
    if name != "runsc":  # which has a kernel of its own
        await eventually(lambda: Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\x00")
        assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    await runtime.pause(config.id)
    await runtime.resume(config.id)
    state = await runtime.stop(config.id, grace=0.2)
    assert state.exit_code in (
        (137, 143) if name == "runsc" else (137,)
    )  # it lets its first process hear TERM
    await runtime.remove(config.id)
    assert cgroup_dirs(runtime, config.id) == []


async def test_a_program_hears_its_stop_signal(rig: Rig, runtime: LocalRuntime, name: str) -> None:
    config = rig.shell("trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done", runtime=name)
    await start(runtime, config)
    await until_line(runtime, config.id, "ready")
    state = await runtime.stop(config.id, grace=60)
    assert state.exit_code == 9


async def test_a_program_that_is_not_there_is_said(rig: Rig, runtime: LocalRuntime, name: str) -> None:
    config = rig.config("nosuch", runtime=name)
    with pytest.raises(Invalid, match=r"(?i)not found|no such file"):
        await start(runtime, config)
    if runtime.inspect(config.id) is not None:
        await runtime.remove(config.id)
    assert cgroup_dirs(runtime, config.id) == []


async def test_volumes_with_a_path_inside_and_image_content(
    rig: Rig, runtime: LocalRuntime, name: str, tmp_path: Path
) -> None:
    (tmp_path / "volume" / "inner").mkdir(parents=True)
    (tmp_path / "volume" / "inner" / "file").write_text("inside\n")
    (tmp_path / "empty").mkdir()
    (rig.image / "data").mkdir()
    (rig.image / "data" / "given").write_text("by the image\n")
    mounts = (
        Mount(target="/v", source=str(tmp_path / "volume"), kind="volume", subpath="inner", readonly=True),
        Mount(target="/data", source=str(tmp_path / "empty"), kind="volume", copy_up=True),
    )
    script = "cat /v/file /data/given; touch /v/x 2>/dev/null || echo readonly; echo kept >/data/new"
    _, text = await output(runtime, rig.shell(script, runtime=name, mounts=mounts))
    assert text.splitlines() == ["inside", "by the image", "readonly"]
    assert (tmp_path / "empty" / "new").read_text() == "kept\n"


async def test_a_link_out_of_a_volume_is_not_followed(
    rig: Rig, runtime: LocalRuntime, name: str, tmp_path: Path
) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "out").symlink_to("/etc")
    mount = Mount(target="/v", source=str(tmp_path / "volume"), kind="volume", subpath="out")
    with pytest.raises(Invalid):
        await start(runtime, rig.shell("ls /v", runtime=name, mounts=(mount,)))


async def test_another_daemon_takes_over_a_container_and_its_exit_code(rig: Rig, name: str) -> None:
    config = rig.shell("trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done", runtime=name)
    first = rig.runtime()
    await first.start_up()
    pid = await start(first, config)
    await until_line(first, config.id, "ready")
    await first.shut_down(stop_containers=False)
    async with running(rig) as second:
        state = second.inspect(config.id)
        assert state is not None
        assert (state.status, state.pid) == ("running", pid)
        assert (await second.stop(config.id, grace=60)).exit_code == 9


async def test_what_a_foreign_runtime_cannot_do_is_refused(
    rig: Rig, runtime: LocalRuntime, name: str
) -> None:
    with pytest.raises(Invalid, match="terminal"):
        await runtime.create(rig.shell("true", runtime=name, tty=True))


async def test_mapped_users_are_refused_with_a_way_out(rig: Rig) -> None:
    runtime = LocalRuntime(rig.data, rig.run, SystemClock(), failed, remap=(200_000, 65_536))
    await runtime.start_up()
    with pytest.raises(Invalid, match="userns=host"):
        await runtime.create(rig.shell("true", runtime="crun"))
    assert (await output(runtime, rig.shell("echo said", runtime="crun", userns="host")))[1].strip() == "said"
    await runtime.shut_down(stop_containers=True)


async def test_an_unknown_or_missing_runtime_is_refused_by_name(rig: Rig, runtime: LocalRuntime) -> None:
    with pytest.raises(Invalid, match="local, crun, runc, runsc"):
        await runtime.create(rig.shell("true", runtime="nosuch"))
    assert runtime.list() == []


async def test_a_node_has_a_runtime_for_containers_that_name_none(rig: Rig, name: str) -> None:
    runtime = LocalRuntime(rig.data, rig.run, SystemClock(), failed, default_runtime=name)
    await runtime.start_up()
    config = rig.shell("echo said")
    assert (await output(runtime, config))[1].strip() == "said"
    own = rig.shell("exec sleep 1000", runtime="local")
    await start(runtime, own)
    named = runtime.config(own.id)
    assert named is not None
    assert named.runtime == "local"
    session = await runtime.exec(own.id, ExecConfig(args=("true",)))  # which ours alone can
    assert await session.wait() == 0
    await session.close()
    await runtime.stop(own.id, grace=0)
    await runtime.remove(own.id)
    await runtime.shut_down(stop_containers=True)


async def test_a_node_whose_runtime_is_not_installed_says_so_at_its_start(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_oci, "_PATH", "/nowhere")
    runtime = LocalRuntime(rig.data, rig.run, SystemClock(), failed, default_runtime="crun")
    with pytest.raises(
        Invalid, match=rf"crun is not installed on node {os.uname().nodename}: install the package"
    ):
        await runtime.start_up()
    assert driver_oci.installed() == ("local",)


async def test_programs_are_executed_inside_where_the_kernel_is_ours(
    rig: Rig, runtime: LocalRuntime, name: str
) -> None:
    config = rig.shell("echo begun; exec sleep 1000", runtime=name, env=("A=b",), hostname="inside")
    pid = await start(runtime, config)
    await until_line(runtime, config.id, "begun")
    if name != "runsc":
        await eventually(lambda: Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\x00")
    wanted = ExecConfig(
        args=("sh", "-c", "hostname; echo $A; id -u; cat /proc/1/cmdline; exit 3"), user="web"
    )
    if name == "runsc":
        with pytest.raises(Refused, match="kernel of their own"):
            await runtime.exec(config.id, wanted)
        return
    code, said = await run(runtime, config.id, wanted, limit=4096, timeout=60)
    assert code == 3
    assert said.split() == [b"inside", b"b", b"1000", b"sleep\x001000\x00"]
    session = await runtime.exec(config.id, ExecConfig(args=("sleep", "500"), tty=True))
    groups = {
        path: Path(path, "cgroup.procs").read_text().split() for path in cgroup_dirs(runtime, config.id)
    }
    assert all(len(members) >= 2 for members in groups.values()), groups  # never outside of its limits
    assert os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
    await session.close(kill=True)


async def test_a_missing_program_of_exec_has_its_code(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("echo begun; exec sleep 1000", runtime="crun")
    await start(runtime, config)
    with pytest.raises(StartFailed) as failure:
        await runtime.exec(config.id, ExecConfig(args=("nosuch",)))
    assert failure.value.exit_code == 127
