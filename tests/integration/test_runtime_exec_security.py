"""What a hostile container can do to a program that is executed in it: each with a control."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from swarmd.node.runtime.core.exits import StartFailed
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import ContainerConfig
from swarmd.node.runtime.sessions import ExecConfig, run
from tests.integration.runtime_rig import Rig, running, start, until_line

pytestmark = pytest.mark.root


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
async def runtime(rig: Rig) -> AsyncIterator[LocalRuntime]:
    async with running(rig) as started:
        yield started


async def hostile(rig: Rig, runtime: LocalRuntime, script: str, **fields: Any) -> ContainerConfig:
    """A container that says "up", then runs ``script`` over and over."""
    config = rig.shell(f"echo up; while :; do {script}; done", **fields)
    await start(runtime, config)
    await until_line(runtime, config.id, "up")
    return config


async def text(runtime: LocalRuntime, config: ContainerConfig, script: str, **fields: Any) -> str:
    wanted = ExecConfig(args=("sh", "-c", script), **fields)
    code, output = await run(runtime, config.id, wanted, limit=100_000, timeout=120)
    assert code == 0, output
    return output.decode()


async def test_what_enters_cannot_be_looked_into_before_it_is_the_program(
    rig: Rig, runtime: LocalRuntime
) -> None:
    """The loop finds every program that is executed, and of none what it was before."""
    look = (
        "for p in /proc/[0-9]*; do readlink $p/exe >> /tmp/seen; "
        "tr '\\0' '\\n' < $p/environ >> /tmp/seen; readlink $p/fd/* >> /tmp/seen; done 2>/dev/null"
    )
    config = await hostile(rig, runtime, look)
    seen = ""
    async with asyncio.timeout(120):  # the control: it looks fast enough to catch them
        while not {"/bin/busybox", "SEEN=program"} <= set(seen.split()):
            for _ in range(40):
                await text(runtime, config, "sleep 0.02", env=("SEEN=program",))
            seen = await text(runtime, config, "sort -u /tmp/seen")
    for secret in (sys.executable, "python", "LC_ALL=C.UTF-8", "pidfd", "memfd", "spawnd"):
        assert secret not in seen


async def test_no_directory_of_the_runtime_becomes_the_working_directory(
    rig: Rig, runtime: LocalRuntime
) -> None:
    config = rig.shell("sleep 1000")
    await start(runtime, config)
    await text(runtime, config, "mkdir /real && ln -s /real /link")
    for number in range(12):
        await text(runtime, config, f"ln -s /proc/self/fd/{number} /leak{number}")
        for cwd in (f"/proc/self/fd/{number}", f"/leak{number}", f"/proc/1/fd/{number}", "/proc/1/root"):
            with pytest.raises(StartFailed, match="working directory"):
                await runtime.exec(config.id, ExecConfig(args=("pwd",), cwd=cwd))
    assert await text(runtime, config, "pwd -P", cwd="/link") == "/real\n"  # the control: links are followed


async def test_a_directory_that_is_swapped_does_not_lead_outside(rig: Rig, runtime: LocalRuntime) -> None:
    swap = (
        "ln -sfn /proc/1/root/../.. /swap/dir; rm -f /swap/dir; ln -sfn /tmp /swap/dir; rm -f /swap/dir; "
        "mkdir /swap/dir; rmdir /swap/dir"
    )
    config = await hostile(rig, runtime, swap, cwd="/swap")
    marker = rig.base / "outside"
    marker.touch()
    seen: list[str] = []
    async with asyncio.timeout(120):  # the control: it is hit in every state
        while len(seen) < 60 or "StartFailed" not in seen or not {"/tmp\n", "/swap/dir\n"} & set(seen):
            try:
                seen.append(await text(runtime, config, f"pwd -P; test ! -e {marker}", cwd="/swap/dir"))
            except StartFailed as error:
                seen.append(type(error).__name__)
    assert set(seen) <= {
        "StartFailed",
        "/tmp\n",
        "/swap/dir\n",
        "/\n",
        "\n",
    }  # an empty line: it was removed meanwhile


async def test_a_link_to_the_running_interpreter_is_not_executed(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("sleep 1000")
    await start(runtime, config)
    await text(
        runtime, config, "ln -s /proc/self/exe /bin/evil; ln -s /bin/busybox /bin/true2; ln -s /proc/1/exe /x"
    )
    for program in ("/proc/self/exe", "/bin/evil", "evil", "/x"):
        with pytest.raises(StartFailed, match="too many levels of symbolic links") as caught:
            await runtime.exec(config.id, ExecConfig(args=(program,)))
        assert caught.value.exit_code == 126
    code, _ = await run(runtime, config.id, ExecConfig(args=("/bin/true",)), limit=10, timeout=60)
    assert code == 0


async def test_a_false_terminal_multiplexer_is_refused(rig: Rig, runtime: LocalRuntime) -> None:
    """A container that may mount can put anything in place of its terminals."""
    config = rig.shell("sleep 1000", privileged=True)
    await start(runtime, config)
    wanted = ExecConfig(args=("tty",), tty=True)
    session = await runtime.exec(config.id, wanted)
    assert await session.read() == (1, b"/dev/pts/0\r\n")  # the control
    assert await session.wait() == 0
    await session.close()
    false = {
        "mkdir /dev/pts; ln -s /etc/passwd /dev/pts/ptmx": "symbolic links",
        "rm /dev/pts/ptmx; cat /etc/passwd > /dev/pts/ptmx": "not the terminal multiplexer",
        "rm /dev/pts/ptmx; mknod /dev/pts/ptmx c 1 3": "not the terminal multiplexer",
        "rm /dev/pts/ptmx": "opening a terminal",
    }
    # It is in use until the terminal of above has been let go of everywhere.
    gone = "until umount /dev/pts 2>/dev/null; do sleep 0.05; done; rmdir /dev/pts"
    await text(runtime, config, gone, privileged=True)
    for script, words in false.items():
        await text(runtime, config, script, privileged=True)
        with pytest.raises(StartFailed, match=words):
            await runtime.exec(config.id, wanted)


@pytest.mark.parametrize("what", ["mkfifo /etc/passwd", "mkdir /etc/passwd", "ln -s /dev/zero /etc/passwd"])
async def test_a_false_user_file_neither_stops_nor_fools(rig: Rig, runtime: LocalRuntime, what: str) -> None:
    config = rig.shell("sleep 1000")
    await start(runtime, config)
    assert await text(runtime, config, "id -u", user="web") == "1000\n"  # the control
    await text(runtime, config, f"rm /etc/passwd; {what}")
    with pytest.raises(StartFailed, match="unable to find user web"):
        await runtime.exec(config.id, ExecConfig(args=("true",), user="web"))
    ids = await text(runtime, config, "grep -E '^(Uid|Groups):' /proc/self/status", user="12:34")
    assert ids.split() == ["Uid:", "12", "12", "12", "12", "Groups:", "34"]
