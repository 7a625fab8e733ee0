"""Terminals in containers: their size, who controls them, what happens when they are hung up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.model.errors import Invalid, Refused
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import ContainerConfig
from swarmd.node.runtime.sessions import ExecConfig, Size
from tests.integration.runtime_rig import Rig, read_until, running, start

pytestmark = pytest.mark.root

SLEEP = ("sleep", "100000")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
async def runtime(rig: Rig) -> AsyncIterator[LocalRuntime]:
    async with running(rig) as started:
        yield started


async def sleeper(rig: Rig, runtime: LocalRuntime) -> ContainerConfig:
    config = rig.config(*SLEEP)
    await start(runtime, config)
    return config


async def test_an_exec_has_a_terminal_of_the_containers_own(rig: Rig, runtime: LocalRuntime) -> None:
    config = await sleeper(rig, runtime)
    script = (
        "tty; stty size; echo $TERM; ls /dev/pts; (echo controlled > /dev/tty); "
        "test -t 0 -a -t 1 -a -t 2; echo $?"
    )
    wanted = ExecConfig(args=("sh", "-c", script), tty=True, size=Size(33, 101))
    session = await runtime.exec(config.id, wanted)
    text = await read_until(session, b"controlled\n0\n")
    assert text.splitlines() == [b"/dev/pts/0", b"33 101", b"xterm", b"0     ptmx", b"controlled", b"0"]
    assert await session.wait() == 0
    assert await session.read() is None
    await session.close()


async def test_a_resize_is_seen_and_told(rig: Rig, runtime: LocalRuntime) -> None:
    config = await sleeper(rig, runtime)
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done"
    session = await runtime.exec(config.id, ExecConfig(args=("sh", "-c", script), tty=True))
    await read_until(session, b"ready\n")
    await session.resize(Size(50, 132))
    await read_until(session, b"50 132\n")
    with pytest.raises(Invalid):
        await session.resize(Size(-1, 70000))
    await session.close(kill=True)
    assert await session.wait() == 137
    plain = await runtime.exec(config.id, ExecConfig(args=SLEEP))
    with pytest.raises(Refused, match="has no terminal"):
        await plain.resize(Size(1, 1))
    await plain.close(kill=True)


async def test_keys_become_signals_and_end_of_file(rig: Rig, runtime: LocalRuntime) -> None:
    config = await sleeper(rig, runtime)
    script = "trap 'echo interrupted' INT; sh -c 'echo ready; exec cat'; echo over"
    session = await runtime.exec(config.id, ExecConfig(args=("sh", "-c", script), tty=True, stdin=True))
    await read_until(session, b"ready\n")
    await session.write(b"\x03")
    await read_until(session, b"interrupted\nover\n")
    await session.close()
    session = await runtime.exec(config.id, ExecConfig(args=("cat",), tty=True, stdin=True))
    await session.write(b"echoed\n\x04")
    await read_until(session, b"echoed\nechoed\n")
    assert await session.wait() == 0
    await session.close()


async def test_letting_go_of_a_terminal_hangs_up(rig: Rig, runtime: LocalRuntime) -> None:
    """As with Docker: whoever sits at a terminal that is gone gets SIGHUP."""
    config = await sleeper(rig, runtime)
    session = await runtime.exec(config.id, ExecConfig(args=SLEEP, tty=True))
    await session.close()
    async with asyncio.timeout(60):
        assert await session.wait() == 129


async def test_input_to_a_terminal_needs_to_be_asked_for(rig: Rig, runtime: LocalRuntime) -> None:
    config = await sleeper(rig, runtime)
    session = await runtime.exec(config.id, ExecConfig(args=SLEEP, tty=True))
    with pytest.raises(Refused, match="without standard input"):
        await session.write(b"x")
    await session.close(kill=True)


async def test_a_terminal_belongs_to_the_user(rig: Rig, runtime: LocalRuntime) -> None:
    config = await sleeper(rig, runtime)
    wanted = ExecConfig(args=("sh", "-c", "stat -c '%u %g %a' $(tty); echo x > $(tty)"), tty=True, user="web")
    session = await runtime.exec(config.id, wanted)
    assert await read_until(session, b"x\n") == b"1000 5 620\nx\n"
    await session.close()
