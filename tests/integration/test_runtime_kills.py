"""Whatever is killed, stopped or replaced, at whatever moment: containers run on and their ends are told."""

from __future__ import annotations

import asyncio
import marshal
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from swarmd.node.runtime import client, launch, rundir
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.logs import read_logs
from swarmd.node.runtime.port import ContainerState
from tests.integration.runtime_rig import (
    Rig,
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

WAITS = "echo up; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo last; exit 23"
DAEMON = """
import asyncio, sys
from pathlib import Path
from swarmd.kit.clock import SystemClock
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import ContainerConfig

async def main(data, run, image, name, script):
    runtime = LocalRuntime(Path(data), Path(run), SystemClock(), print)
    await runtime.start_up()
    config = ContainerConfig(id=name, lower_dirs=(image,), args=("sh", "-c", script))
    await runtime.create(config)
    await runtime.start(name)
    print("ready", flush=True)
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


async def run_through(rig: Rig, runtime: LocalRuntime, number: int) -> tuple[int | None, str]:
    state, text = await output(runtime, rig.shell(f"echo {number}; exit {number}"))
    return state.exit_code, text


async def test_a_spawner_of_another_version_becomes_ours_and_stays_the_parent(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = rig.runtime()
    await first.start_up()
    runs, waiting = rig.shell(WAITS), rig.shell("exit 7")
    await start(first, runs)
    await until_line(first, runs.id, "up")
    await first.create(waiting)
    spawner, pump = pid_of(rig, "spawnd.py"), pid_of(rig, "logd.py")
    await first.shut_down(stop_containers=False)
    monkeypatch.setattr(launch, "code_version", lambda: "a later one")
    async with running(rig) as second:
        assert pid_of(rig, "spawnd.py") == spawner
        assert b"a later one" in Path(f"/proc/{spawner}/cmdline").read_bytes()
        await second.start(waiting.id)
        assert (await second.wait(waiting.id)).exit_code == 7
        release(second, runs.id)
        assert (await second.wait(runs.id)).exit_code == 23
        assert await log_text(second, runs.id) == "up\nlast\n"
        assert await run_through(rig, second, 9) == (9, "9\n")
        # Its successor comes with the new program, as soon as it has let go.
        await eventually(lambda: pid_of(rig, "logd.py") not in (0, pump))
        assert len(os.listdir(f"/proc/{spawner}/task")) == 1


async def test_it_upgrades_under_load_and_nobody_notices(rig: Rig, runtime: LocalRuntime) -> None:
    await output(runtime, rig.config("true"))
    spawner = pid_of(rig, "spawnd.py")
    held = len(os.listdir(f"/proc/{spawner}/fd"))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run_through(rig, runtime, number)) for number in range(30)]
        for _ in range(6):
            await runtime._spawner._upgrade()
    assert [task.result() for task in tasks] == [(number, f"{number}\n") for number in range(30)]
    assert pid_of(rig, "spawnd.py") == spawner
    await eventually(lambda: len(os.listdir(f"/proc/{spawner}/fd")) <= held)


async def test_a_program_that_cannot_be_executed_is_refused_and_all_goes_on(
    rig: Rig, runtime: LocalRuntime
) -> None:
    config = rig.shell(WAITS)
    await start(runtime, config)
    spawner = pid_of(rig, "spawnd.py")
    with pytest.raises(client.SpawnerError, match="No such file"):
        await runtime._spawner.call("upgrade", "/no/such/python", "x", "y")
    assert pid_of(rig, "spawnd.py") == spawner
    release(runtime, config.id)
    assert (await runtime.wait(config.id)).exit_code == 23


async def test_a_spawner_of_the_first_release_is_replaced(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows neither "code" nor "upgrade"."""
    first = rig.runtime()
    await first.start_up()
    config = rig.shell(WAITS)
    await start(first, config)
    await first.shut_down(stop_containers=False)
    old = pid_of(rig, "spawnd.py")
    true_call = client.SpawnClient.call

    async def call(self: client.SpawnClient, operation: str, *rest: object, **named: object) -> object:
        if self._connection is not None and launch.peer_pid(self._connection) == old and operation == "code":
            operation = "no such operation"
        return await true_call(self, operation, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(client.SpawnClient, "call", call)
    async with running(rig) as second:
        assert pid_of(rig, "spawnd.py") not in (0, old)
        release(second, config.id)
        assert (await second.wait(config.id)).exit_code == 23


async def hangs_to_its_end(pid: int) -> None:
    """Wait until it has been killed; whoever else lets it go on, it is stopped again."""

    def is_over() -> bool:
        try:
            os.kill(pid, signal.SIGSTOP)
            return Path(f"/proc/{pid}/cmdline").read_bytes() == b""  # nothing but its exit code is left
        except OSError:
            return True

    await eventually(is_over)


async def test_a_spawner_that_hangs_is_replaced(
    rig: Rig, runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = rig.shell(WAITS)
    await start(runtime, config)
    await until_line(runtime, config.id, "up")  # the pump holds its output as well
    old = pid_of(rig, "spawnd.py")
    monkeypatch.setattr(client, "_HELLO_PATIENCE", 0.5)
    os.kill(old, signal.SIGSTOP)
    release(runtime, config.id)
    await hangs_to_its_end(old)
    monkeypatch.undo()  # the next one may take its time
    assert (await runtime.wait(config.id)).exit_code == 23
    await eventually(lambda: pid_of(rig, "spawnd.py") not in (0, old))
    assert await log_text(runtime, config.id) == "up\nlast\n"
    assert await run_through(rig, runtime, 5) == (5, "5\n")


async def test_a_daemon_that_finds_a_hung_spawner_replaces_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = rig.runtime()
    await first.start_up()
    config = rig.shell(WAITS)
    await start(first, config)
    await first.shut_down(stop_containers=False)
    old = pid_of(rig, "spawnd.py")
    os.kill(old, signal.SIGSTOP)
    monkeypatch.setattr(client, "_HELLO_PATIENCE", 1.0)

    async def be_patient_with_the_next() -> None:
        await hangs_to_its_end(old)
        monkeypatch.undo()

    async with asyncio.TaskGroup() as group:
        hanging = group.create_task(be_patient_with_the_next())
        async with running(rig) as second:
            await hanging
            await eventually(lambda: pid_of(rig, "spawnd.py") not in (0, old))
            release(second, config.id)
            assert (await second.wait(config.id)).exit_code == 23


async def test_a_spawner_killed_in_a_burst_delays_but_fails_nothing(rig: Rig, runtime: LocalRuntime) -> None:
    """Those it was making are made again; a start it was told of has happened or is refused."""

    async def one(number: int) -> tuple[int | None, str]:
        config = rig.shell(f"echo {number}; exit {number}")
        await runtime.create(config)
        try:
            await runtime.start(config.id)
        except client.Unavailable:  # it waited for its start when the spawner died: nothing has run
            await runtime.remove(config.id)
            return await one(number)
        state = await runtime.wait(config.id)
        text = await log_text(runtime, config.id)
        await runtime.remove(config.id)
        return state.exit_code, text

    await output(runtime, rig.config("true"))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number)) for number in range(50)]
        for done in (5, 20):
            await eventually(lambda: sum(task.done() for task in tasks) >= done)  # noqa: B023
            await eventually(lambda: pid_of(rig, "spawnd.py") != 0)
            end(pid_of(rig, "spawnd.py"))
    assert [task.result() for task in tasks] == [(number, f"{number}\n") for number in range(50)]


async def test_what_a_container_said_before_the_pump_looked_outlives_it_and_the_spawner(
    rig: Rig, runtime: LocalRuntime
) -> None:
    await output(runtime, rig.config("true"))
    pump, spawner = pid_of(rig, "logd.py"), pid_of(rig, "spawnd.py")
    assert pump > 0
    os.kill(pump, signal.SIGSTOP)
    try:
        config = rig.shell("echo words; exit 3")
        await start(runtime, config)
        assert (await runtime.wait(config.id)).exit_code == 3
        end(spawner)
        await eventually(lambda: pid_of(rig, "spawnd.py") not in (0, spawner))
    finally:
        os.kill(pump, signal.SIGCONT)
    assert await log_text(runtime, config.id) == "words\n"


async def test_a_container_is_made_although_the_spawner_dies_twice_meanwhile(
    rig: Rig, runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_ask, deaths = runtime._spawner.ask, [1, 2]

    async def ask(operation: str, *rest: Any, **named: Any) -> Any:
        if operation == "create" and deaths:
            deaths.pop()
            await runtime._spawner.is_back()
            end(pid_of(rig, "spawnd.py"))
        return await true_ask(operation, *rest, **named)

    monkeypatch.setattr(runtime._spawner, "ask", ask)
    assert await run_through(rig, runtime, 3) == (3, "3\n")
    assert not deaths


async def test_a_spawner_that_is_killed_in_the_moment_of_the_end_leaves_nothing(rig: Rig) -> None:
    runtime = rig.runtime()
    await runtime.start_up()
    assert await run_through(rig, runtime, 3) == (3, "3\n")
    end(pid_of(rig, "spawnd.py"))
    await runtime.shut_down(stop_containers=True)
    assert pid_of(rig, "spawnd.py") == 0
    assert str(rig.run) not in Path("/proc/self/mountinfo").read_text()


async def all_killed(rig: Rig, script: str) -> str:
    """A daemon starts a container; then it, the spawner and the pump are killed.  The container's id."""
    name = rig.config("true").id
    command = [sys.executable, "-c", DAEMON, str(rig.data), str(rig.run), str(rig.image), name, script]
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert daemon.stdout is not None
    assert await asyncio.to_thread(daemon.stdout.readline) == b"ready\n"
    async for _ in read_logs(rig.data / "containers" / name, follow=True):
        break  # it is up
    await until_pumped(rig, name)
    for pid in (daemon.pid, pid_of(rig, "spawnd.py"), pid_of(rig, "logd.py")):
        end(pid)
    daemon.wait()
    return name


async def test_all_three_killed_at_once_lose_neither_container_nor_end_nor_output(rig: Rig) -> None:
    name = await all_killed(rig, WAITS)
    async with running(rig) as runtime:
        state = runtime.inspect(name)
        assert state is not None
        assert state.status == "running"
        release(runtime, name)
        assert (await runtime.wait(name)).exit_code == 23
        assert await log_text(runtime, name) == "up\nlast\n"


async def test_an_exit_code_survives_even_if_nobody_is_there_to_see_it(rig: Rig) -> None:
    name = await all_killed(rig, WAITS)
    run = rundir.load(str(rig.run), name, "run")
    assert run is not None
    Path(f"/proc/{run[0]}/root/tmp/go").touch()
    await eventually(lambda: not os.path.exists(f"/proc/{run[0]}"))
    async with running(rig) as runtime:
        state = runtime.inspect(name)
        assert state is not None
        assert (state.status, state.exit_code, state.error) == ("exited", 23, "")


async def noted(rig: Rig, change: tuple[int, object]) -> ContainerState:
    """What a daemon says of a running container when its note has been changed."""
    name = await all_killed(rig, WAITS)
    path = Path(rundir.directory(str(rig.run), name)) / "run"
    values = list(marshal.loads(path.read_bytes()))
    pid = values[0]
    values[change[0]] = change[1]
    path.write_bytes(marshal.dumps(tuple(values)))
    subprocess.run(["umount", "-l", rig.run / "keep"], check=True)  # noqa: ASYNC221
    try:
        async with running(rig) as runtime:
            state = runtime.inspect(name)
            assert state is not None
            return state
    finally:
        end(pid)


async def test_another_process_with_its_number_is_not_taken_for_it(rig: Rig) -> None:
    other = subprocess.Popen(["sleep", "1000"])  # noqa: ASYNC220
    try:
        state = await noted(rig, (0, other.pid))
        assert (state.status, state.exit_code) == ("exited", 255)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


async def test_after_a_reboot_everything_has_ended_and_it_says_why(rig: Rig) -> None:
    state = await noted(rig, (2, "the id of another boot"))
    assert (state.status, state.exit_code) == ("exited", 255)
    assert "the node or its container spawner restarted" in state.error


async def test_a_start_in_progress_when_the_spawner_dies_is_found_out(
    rig: Rig, runtime: LocalRuntime
) -> None:
    """The child has been told to go, and the spawner dies before it can say so."""
    config = rig.shell(WAITS)
    await runtime.create(config)
    await (await runtime.attach(config.id)).close()  # from now on the pump holds its output as well
    spawner = pid_of(rig, "spawnd.py")
    starting = asyncio.create_task(runtime.start(config.id))
    note = Path(rundir.directory(str(rig.run), config.id)) / "run"
    await eventually(lambda: b"created" not in note.read_bytes())
    end(spawner)
    await starting
    await until_line(runtime, config.id, "up")
    release(runtime, config.id)
    assert (await runtime.wait(config.id)).exit_code == 23
