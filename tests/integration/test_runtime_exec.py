"""Programs executed in running containers: what they see, how they end, what is left of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from swarmd.model.errors import Invalid, NotFound, Refused
from swarmd.node.runtime.core.exits import StartFailed
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import ContainerConfig, Limits, Ulimit
from swarmd.node.runtime.sessions import ExecConfig, RunTimeout, Session, run
from tests.integration.runtime_rig import Rig, cgroup_dirs, eventually, running, start

pytestmark = pytest.mark.root

SLEEP = ("sleep", "100000")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
async def runtime(rig: Rig) -> AsyncIterator[LocalRuntime]:
    async with running(rig) as started:
        yield started


async def read_all(session: Session) -> tuple[bytes, bytes]:
    """Stdout and stderr, to the end."""
    streams = {1: b"", 2: b""}
    while (piece := await session.read()) is not None:
        streams[piece[0]] += piece[1]
    return streams[1], streams[2]


async def executed(
    runtime: LocalRuntime, container: ContainerConfig, script: str, **fields: Any
) -> tuple[int, str]:
    """The exit code and stdout of a shell script run in a container."""
    session = await runtime.exec(container.id, ExecConfig(args=("sh", "-c", script), **fields))
    out, err = await read_all(session)
    code = await session.wait()
    await session.close()
    assert err == b""
    return code, out.decode()


def pids(runtime: LocalRuntime, config: ContainerConfig) -> int:
    """How many processes are in the container."""
    return max(
        int(Path(path, "pids.current").read_text())
        for path in cgroup_dirs(runtime, config.id)
        if Path(path, "pids.current").exists()
    )


async def sleeper(rig: Rig, runtime: LocalRuntime, **fields: Any) -> ContainerConfig:
    """A running container."""
    config = rig.config(*SLEEP, **fields)
    await start(runtime, config)
    return config


async def test_a_program_sees_the_container_and_not_the_host(rig: Rig, runtime: LocalRuntime) -> None:
    config = await sleeper(rig, runtime, hostname="box", env=("A=1", "B=2"), cwd="/tmp", user="web")
    state = runtime.inspect(config.id)
    assert state is not None
    inside = f"/proc/{state.pid}/ns"
    code, text = await executed(
        runtime, config,
        "hostname; echo $A $B $C $HOME; pwd; id; tr '\\0' ' ' < /proc/1/cmdline; echo; "
        "for n in mnt uts ipc net pid cgroup; do readlink /proc/self/ns/$n; done",
        env=("B=3", "C=4"),
    )  # fmt: skip
    lines = text.splitlines()
    assert code == 0
    assert lines[:5] == [
        "box", "1 3 4 /home/web", "/tmp", "uid=1000(web) gid=1000(web) groups=1000(web),2000(extra)",
        "sleep 100000 ",
    ]  # fmt: skip
    assert lines[5:] == [os.readlink(f"{inside}/{n}") for n in ("mnt", "uts", "ipc", "net", "pid", "cgroup")]


async def test_user_and_directory_can_be_others(rig: Rig, runtime: LocalRuntime) -> None:
    config = await sleeper(rig, runtime, user="web")
    assert await executed(runtime, config, "id -u; pwd; echo $HOME", user="0", cwd="/etc") == (
        0,
        "0\n/etc\n/root\n",
    )
    code, text = await executed(runtime, config, "id", user="77:88")
    assert (code, text) == (0, "uid=77 gid=88 groups=88\n")


async def test_streams_are_kept_apart_and_input_is_given(rig: Rig, runtime: LocalRuntime) -> None:
    config = await sleeper(rig, runtime)
    session = await runtime.exec(
        config.id, ExecConfig(args=("sh", "-c", "echo problem >&2; cat; exit 7"), stdin=True)
    )
    big = os.urandom(300_000)  # more than the pipes hold

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read_all(session))
        await session.write(big)
        await session.end_input()
    assert reading.result() == (big, b"problem\n")
    assert await session.wait() == 7
    with pytest.raises(Refused):
        await session.write(b"more")
    await session.close()


async def test_without_input_the_program_reads_its_end(rig: Rig, runtime: LocalRuntime) -> None:
    config = await sleeper(rig, runtime)
    assert await executed(runtime, config, "cat; echo done") == (0, "done\n")
    session = await runtime.exec(config.id, ExecConfig(args=("cat",)))
    with pytest.raises(Refused):
        await session.write(b"x")
    await session.close()


@pytest.mark.parametrize(("script", "code"), [("exit 42", 42), ("kill -9 $$", 137), ("kill -15 $$", 143)])
async def test_the_exit_code_is_the_programs(rig: Rig, runtime: LocalRuntime, script: str, code: int) -> None:
    config = await sleeper(rig, runtime)
    assert await executed(runtime, config, script) == (code, "")


@pytest.mark.parametrize(
    ("program", "fields", "code", "words"),
    [
        ("nosuchthing", {}, 127, 'exec: "nosuchthing": executable file not found in $PATH'),
        ("/no/such", {}, 127, 'exec: "/no/such": stat /no/such: no such file or directory'),
        ("/etc/passwd", {}, 126, 'exec: "/etc/passwd": permission denied'),
        ("/etc", {}, 126, 'exec: "/etc": is a directory'),
        ("/proc/self/exe", {}, 126, "too many levels of symbolic links"),
        ("true", {"cwd": "/nope"}, 127, "changing to the working directory /nope"),
        ("true", {"cwd": "/etc/passwd"}, 127, "changing to the working directory /etc/passwd"),
        ("true", {"user": "nobody-there"}, 126, "unable to find user nobody-there"),
        ("true", {"user": "web:nogroup"}, 126, "unable to find group nogroup"),
    ],
)
async def test_a_program_that_cannot_run_is_named(
    rig: Rig, runtime: LocalRuntime, program: str, fields: dict[str, Any], code: int, words: str
) -> None:
    config = await sleeper(rig, runtime)
    with pytest.raises(StartFailed) as caught:
        await runtime.exec(config.id, ExecConfig(args=(program,), **fields))
    assert words in str(caught.value)
    assert caught.value.exit_code == code


async def test_only_running_containers_execute(rig: Rig, runtime: LocalRuntime) -> None:
    wanted = ExecConfig(args=("true",))
    with pytest.raises(NotFound):
        await runtime.exec("nothing", wanted)
    config = rig.config(*SLEEP)
    await runtime.create(config)
    with pytest.raises(Refused, match="has not been started"):
        await runtime.exec(config.id, wanted)
    await runtime.start(config.id)
    await runtime.pause(config.id)
    with pytest.raises(Refused, match="is paused"):
        await runtime.exec(config.id, wanted)
    await runtime.resume(config.id)
    session = await runtime.exec(config.id, wanted)
    assert await session.wait() == 0
    await session.close()
    await runtime.stop(config.id, grace=0)
    with pytest.raises(Refused, match="is exited"):
        await runtime.exec(config.id, wanted)
    with pytest.raises(Invalid, match="must be an absolute path"):
        await runtime.exec(config.id, ExecConfig(args=("true",), cwd="here"))


async def test_limits_capabilities_and_the_filter_hold_for_it_too(rig: Rig, runtime: LocalRuntime) -> None:
    config = await sleeper(
        rig, runtime,
        limits=Limits(pids=20, memory=64 * 1024 * 1024), ulimits=(Ulimit("nofile", 100, 200),),
        cap_drop=("MKNOD",), no_new_privileges=True, oom_score_adj=500,
    )  # fmt: skip
    look = (
        "grep -E 'Cap|Seccomp:|NoNew' /proc/self/status | tr -s '\\t ' ' '; ulimit -n; "
        "cat /proc/self/oom_score_adj"
    )
    code, text = await executed(runtime, config, look)
    assert code == 0
    assert text.splitlines() == [
        "CapInh: 0000000000000000", "CapPrm: 00000000a00425fb", "CapEff: 00000000a00425fb",
        "CapBnd: 00000000a00425fb", "CapAmb: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2", "100", "500",
    ]  # fmt: skip
    session = await runtime.exec(config.id, ExecConfig(args=SLEEP))
    for directory in cgroup_dirs(runtime, config.id):
        assert len(Path(directory, "cgroup.procs").read_text().split()) == 2, directory
    await session.close(kill=True)
    assert await session.wait() == 137
    _, text = await executed(runtime, config, look, user="web")
    assert "CapPrm: 0000000000000000" in text
    assert "CapBnd: 00000000a00425fb" in text
    _, text = await executed(runtime, config, look, privileged=True)
    grantable = Path("/proc/self/status").read_text().split("CapPrm:")[1].split()[0]
    assert f"CapEff: {grantable}" in text
    assert "Seccomp: 2" in text


async def test_nothing_but_three_streams_is_handed_over(rig: Rig, runtime: LocalRuntime) -> None:
    config = await sleeper(rig, runtime)
    others = [await runtime.exec(config.id, ExecConfig(args=SLEEP, stdin=True)) for _ in range(3)]
    session = await runtime.exec(config.id, ExecConfig(args=("ls", "/proc/self/fd")))
    out, _ = await read_all(session)
    assert out.split() == [b"0", b"1", b"2", b"3"]  # 3 is how ls reads the directory
    await session.close()
    for each in others:
        await each.close(kill=True)


async def test_fifty_at_once(rig: Rig, runtime: LocalRuntime) -> None:
    config = await sleeper(rig, runtime)

    async def one(number: int) -> tuple[int, str]:
        return await executed(runtime, config, f"cat; echo {number}; exit {number}")

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number)) for number in range(50)]
    assert [task.result() for task in tasks] == [(number, f"{number}\n") for number in range(50)]


async def test_the_end_of_the_container_is_the_end_of_all(rig: Rig, runtime: LocalRuntime) -> None:
    config = await sleeper(rig, runtime)
    sessions = [await runtime.exec(config.id, ExecConfig(args=SLEEP)) for _ in range(5)]
    await runtime.kill(config.id)
    for session in sessions:
        assert await session.wait() == 137
        assert await session.read() is None
        await session.close()
    await runtime.wait(config.id)


async def test_executing_in_a_dying_container_is_refused_or_killed(rig: Rig, runtime: LocalRuntime) -> None:
    """Whatever the moment, there is an answer, and nothing is left."""
    for _ in range(10):
        config = await sleeper(rig, runtime)

        async def one(config: ContainerConfig = config) -> int:
            try:
                session = await runtime.exec(config.id, ExecConfig(args=SLEEP))
            except Refused:
                return 137
            code = await session.wait()
            await session.close()
            return code

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one()) for _ in range(5)]
            await runtime.kill(config.id)
        assert {task.result() for task in tasks} == {137}
        await runtime.wait(config.id)
        await runtime.remove(config.id)
        assert cgroup_dirs(runtime, config.id) == []


async def test_a_result_is_collected_up_to_a_limit(rig: Rig, runtime: LocalRuntime) -> None:
    config = await sleeper(rig, runtime)

    async def result(script: str) -> tuple[int, bytes]:
        return await run(runtime, config.id, ExecConfig(args=("sh", "-c", script)), limit=4096, timeout=60)

    code, both = await result("echo out; echo err >&2; exit 3")
    assert (code, sorted(both.splitlines())) == (3, [b"err", b"out"])
    code, much = await result("seq 100000; exit 3")
    assert (code, much[:4], len(much)) == (3, b"1\n2\n", 4096)


async def test_who_inherits_the_output_does_not_hold_up_the_result(rig: Rig, runtime: LocalRuntime) -> None:
    config = await sleeper(rig, runtime)
    wanted = ExecConfig(args=("sh", "-c", "sleep 100000 & echo started"))
    assert await run(runtime, config.id, wanted, limit=4096, timeout=60) == (0, b"started\n")
    await eventually(lambda: pids(runtime, config) == 2)  # it is left alone, as in Docker


async def test_a_program_that_takes_too_long_is_killed_with_all_its_descendants(
    rig: Rig, runtime: LocalRuntime
) -> None:
    config = await sleeper(rig, runtime, init=True)
    script = "echo begun; (sh -c 'sleep 100000 & sleep 100000' &); setsid sleep 100000 & sleep 100000"
    wanted, output = ExecConfig(args=("sh", "-c", script)), b""
    for seconds in (2, 8, 32):  # a busy machine takes longer to begin it
        with pytest.raises(RunTimeout) as caught:
            await run(runtime, config.id, wanted, limit=4096, timeout=seconds)
        await eventually(lambda: pids(runtime, config) == 2)
        if output := caught.value.output:
            break
    assert output == b"begun\n"
    assert (await executed(runtime, config, "echo fine")) == (0, "fine\n")


async def test_who_lets_go_and_kills_takes_the_children_too(rig: Rig, runtime: LocalRuntime) -> None:
    """Without a group of its own its descendants and its session are looked for."""
    config = await sleeper(rig, runtime, init=True)
    script = "sleep 100000 & (sh -c 'sleep 100000 & sleep 100000' &); echo up; sleep 100000"
    victim = await runtime.exec(config.id, ExecConfig(args=("sh", "-c", script)))
    other = await runtime.exec(config.id, ExecConfig(args=SLEEP))
    assert await victim.read() == (1, b"up\n")
    assert pids(runtime, config) > 5
    await victim.close(kill=True)
    await eventually(lambda: pids(runtime, config) == 3)  # init, the sleeper, and the other one
    await other.close()
    assert pids(runtime, config) == 3
    await other.signal("SIGTERM")
    assert await other.wait() == 143


async def test_a_daemon_that_ends_in_order_lets_go_of_its_programs(rig: Rig) -> None:
    runtime = rig.runtime()
    await runtime.start_up()
    config = await sleeper(rig, runtime)
    before = len(os.listdir("/proc/self/fd"))
    session = await runtime.exec(config.id, ExecConfig(args=("cat",), stdin=True))
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(session.read())
        await runtime.shut_down(stop_containers=False)
    assert reading.result() is None
    assert len(os.listdir("/proc/self/fd")) < before
    async with running(rig) as again:
        await eventually(lambda: pids(again, config) == 1)  # it has read its end


async def test_nothing_is_left_of_many(rig: Rig, runtime: LocalRuntime) -> None:
    config = await sleeper(rig, runtime)
    wanted = ExecConfig(args=("true",))
    await run(runtime, config.id, wanted, limit=10, timeout=60)
    spawner, ours = runtime._spawner._pid, os.getpid()

    def descriptors() -> list[int]:
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in (spawner, ours)]

    before = descriptors()
    for _ in range(20):
        await run(runtime, config.id, wanted, limit=10, timeout=60)
        with pytest.raises(StartFailed):
            await runtime.exec(config.id, ExecConfig(args=("nothing",)))
    # Not equal: the first program's pidfd may have been open still when they were counted.
    await eventually(lambda: all(now <= then for now, then in zip(descriptors(), before, strict=True)))
    group = Path(cgroup_dirs(runtime, config.id)[0])
    await eventually(lambda: not list(group.glob("exec-*")))
