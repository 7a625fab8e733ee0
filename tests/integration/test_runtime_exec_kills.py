"""Whoever is killed or replaced while programs are executed in containers: what becomes of them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.model.errors import Refused, Unavailable
from swarmd.node.runtime import launch
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import ContainerConfig
from swarmd.node.runtime.sessions import ExecConfig, Session, run
from tests.integration.runtime_rig import Rig, end, eventually, pid_of, running, start

pytestmark = pytest.mark.root

WAITS = "echo begun; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo over; exit 9"
DAEMON = """
import asyncio, sys
from pathlib import Path
from swarmd.kit.clock import SystemClock
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import ContainerConfig
from swarmd.node.runtime.sessions import ExecConfig

async def main(data, run, image, name):
    runtime = LocalRuntime(Path(data), Path(run), SystemClock(), print)
    await runtime.start_up()
    await runtime.create(ContainerConfig(id=name, lower_dirs=(image,), args=("sleep", "100000"), init=True))
    await runtime.start(name)
    quiet = "trap '' PIPE; echo x >/tmp/quiet; while :; do sleep 0.05; done"
    for script in (quiet, "cat; echo x > /tmp/input-ended", "while echo x; do sleep 0.02; done"):
        session = await runtime.exec(name, ExecConfig(args=("sh", "-c", script), stdin=True, own_group=True))
    script = "trap 'echo x > /tmp/hup' HUP; echo up; sleep 1000 & wait"
    session = await runtime.exec(name, ExecConfig(args=("sh", "-c", script), tty=True))
    await session.read()
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


def inside(runtime: LocalRuntime, name: str, path: str) -> Path:
    """A file of the container, seen from here."""
    state = runtime.inspect(name)
    assert state is not None
    return Path(f"/proc/{state.pid}/root{path}")


async def begun(runtime: LocalRuntime, name: str, *, tty: bool = False) -> Session:
    """A program in the container that ends with 9 once /tmp/go is there."""
    session = await runtime.exec(name, ExecConfig(args=("sh", "-c", WAITS), tty=tty))
    piece = await session.read()
    assert piece is not None
    assert piece[1].startswith(b"begun")
    return session


async def rest(session: Session) -> bytes:
    text = b""
    async with asyncio.timeout(60):
        while (piece := await session.read()) is not None:
            text += piece[1]
    return text


async def settled(runtime: LocalRuntime, name: str, count: int) -> None:
    """Wait until no more than ``count`` processes are in the container."""
    async with asyncio.timeout(60):
        while len(await runtime.top(name)) > count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # other processes' doing: there is nothing to be woken by


async def sleeper(rig: Rig, runtime: LocalRuntime) -> ContainerConfig:
    config = rig.config("sleep", "100000")
    await start(runtime, config)
    return config


async def test_a_killed_daemon_leaves_its_programs_to_their_broken_streams(rig: Rig) -> None:
    """As with Docker: who reads hears the end, who writes that nobody listens; who does neither goes on."""
    command = [sys.executable, "-c", DAEMON, str(rig.data), str(rig.run), str(rig.image), "box"]
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == b"ready\n"
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    async with running(rig) as runtime:
        await eventually(lambda: inside(runtime, "box", "/tmp/input-ended").exists())
        await eventually(lambda: inside(runtime, "box", "/tmp/hup").exists())
        await settled(
            runtime, "box", 5
        )  # init, the sleeper, the quiet one with its sleep, and that of the hung up
        assert [each for each in await runtime.top("box") if "/tmp/quiet" in each.command]
        code, output = await run(runtime, "box", ExecConfig(args=("echo", "fine")), limit=100, timeout=60)
        assert (code, output) == (0, b"fine\n")


@pytest.mark.parametrize("tty", [False, True])
async def test_a_killed_spawner_costs_neither_output_nor_exit_code(
    rig: Rig, runtime: LocalRuntime, *, tty: bool
) -> None:
    config = await sleeper(rig, runtime)
    session = await begun(runtime, config.id, tty=tty)
    old = pid_of(rig, "spawnd.py")
    end(old)
    await eventually(lambda: pid_of(rig, "spawnd.py") not in (0, old))
    inside(runtime, config.id, "/tmp/go").touch()
    assert (await rest(session)).replace(b"\r", b"") == b"over\n"
    assert await session.wait() == 9
    await session.close()
    code, _ = await run(runtime, config.id, ExecConfig(args=("true",)), limit=1, timeout=60)
    assert code == 0


async def test_a_spawner_killed_in_a_burst_of_programs_answers_for_all_of_them(
    rig: Rig, runtime: LocalRuntime
) -> None:
    """Each has run, or says that it could not be asked for; nothing hangs, nothing is left."""
    config = await sleeper(rig, runtime)

    async def one() -> str:
        try:
            code, _ = await run(runtime, config.id, ExecConfig(args=("true",)), limit=1, timeout=60)
        except (Unavailable, Refused):
            return "said"
        return "ran" if code == 0 else f"code {code}"

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one()) for _ in range(30)]
        await asyncio.sleep(0.05)  # in the middle of it
        end(pid_of(rig, "spawnd.py"))
    assert {task.result() for task in tasks} <= {"ran", "said"}

    async def runs() -> bool:
        return await one() == "ran"

    await eventually(runs)


@pytest.mark.parametrize("tty", [False, True])
async def test_an_upgraded_spawner_stays_the_parent_of_what_it_executed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, *, tty: bool
) -> None:
    monkeypatch.setattr(launch, "code_version", lambda: "of yesterday")
    async with running(rig) as runtime:
        config = await sleeper(rig, runtime)
        session = await begun(runtime, config.id, tty=tty)
        pid = pid_of(rig, "spawnd.py")
        monkeypatch.undo()
        runtime._spawner._broken()  # a new connection finds that it is of another version
        await eventually(lambda: runtime._spawner.online.is_set())
        assert pid_of(rig, "spawnd.py") == pid
        again = await begun(runtime, config.id, tty=tty)
        inside(runtime, config.id, "/tmp/go").touch()
        for each in (session, again):
            assert (await rest(each)).replace(b"\r", b"") == b"over\n"
            assert await each.wait() == 9
            await each.close()


async def test_orphans_of_an_executed_program_are_reaped_by_the_init(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.config("sleep", "100000", init=True)
    await start(runtime, config)
    wanted = ExecConfig(args=("sh", "-c", "for i in 1 2 3 4 5; do (sleep 0.1 &); done"))
    code, _ = await run(runtime, config.id, wanted, limit=1, timeout=60)
    assert code == 0
    await settled(runtime, config.id, 2)
    assert {each.state for each in await runtime.top(config.id)} <= {"S", "R", "D"}
