"""Attaching to containers: output as it is written, input, terminals; what outlives whom."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.model.errors import Refused
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.logs import read_logs
from swarmd.node.runtime.sessions import Session, Size
from tests.integration.runtime_rig import (
    Rig,
    end,
    eventually,
    log_text,
    pid_of,
    read_until,
    running,
    start,
    until_line,
)

pytestmark = pytest.mark.root


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
async def runtime(rig: Rig) -> AsyncIterator[LocalRuntime]:
    async with running(rig) as started:
        yield started


async def read_all(session: Session) -> dict[int, bytes]:
    streams = {1: b"", 2: b""}
    async with asyncio.timeout(120):
        while (piece := await session.read()) is not None:
            streams[piece[0]] += piece[1]
    return streams


async def test_all_of_a_short_life_is_heard(rig: Rig, runtime: LocalRuntime) -> None:
    """Attached before the start, as ``docker run`` does; without a line end too."""
    config = rig.shell("echo one; echo two >&2; printf three; exit 5")
    await runtime.create(config)
    sessions = [await runtime.attach(config.id) for _ in range(3)]
    await runtime.start(config.id)
    for session in sessions:
        assert await read_all(session) == {1: b"one\nthree", 2: b"two\n"}
        assert await session.wait() == 5
        await session.close()
    with pytest.raises(Refused, match="is exited"):
        await runtime.attach(config.id)
    assert sorted((await log_text(runtime, config.id)).splitlines()) == ["one", "three", "two"]


async def test_what_was_written_before_comes_first_and_nothing_twice(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell(
        "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; printf end; sleep 1000"
    )
    await start(runtime, config)
    late = [await runtime.attach(config.id, logs=True) for _ in range(5)]  # at moments that nobody chose
    expected = b"".join(b"line %d\n" % number for number in range(3000)) + b"end"
    for session in late:
        assert await read_until(session, b"end") == expected
    await runtime.stop(config.id, grace=0)
    for session in late:
        assert await session.read() is None
        await session.close()


async def test_a_reader_that_sleeps_holds_nobody_up_and_misses_nothing(
    rig: Rig, runtime: LocalRuntime
) -> None:
    config = rig.shell("echo begin; seq 400000; echo over; sleep 1000")
    await runtime.create(config)
    sleeper = await runtime.attach(config.id)
    await runtime.start(config.id)
    await read_until(sleeper, b"begin\n")
    await until_line(runtime, config.id, "over")  # all has been written, though nobody reads
    text = await read_until(sleeper, b"over\n")
    expected = b"".join(b"%d\n" % number for number in range(1, 400001)) + b"over\n"
    assert expected.endswith(text)
    assert len(text) > len(expected) - 32 * 1024
    await sleeper.close()


async def test_a_killed_pump_costs_an_attached_reader_nothing(rig: Rig, runtime: LocalRuntime) -> None:
    script = "printf 'half '; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo line; echo more"
    config = rig.shell(script)
    await runtime.create(config)
    session = await runtime.attach(config.id)
    await runtime.start(config.id)
    await read_until(session, b"half ")
    end(pid_of(rig, "logd.py"))
    state = runtime.inspect(config.id)
    assert state is not None
    Path(f"/proc/{state.pid}/root/tmp/go").touch()
    assert (await read_all(session))[1] == b"line\nmore\n"
    await session.close()


async def test_input_reaches_the_program_until_it_is_ended(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("cat; echo over", stdin=True)
    await start(runtime, config)
    first, second = await runtime.attach(config.id), await runtime.attach(config.id)
    await first.write(b"from one\n")
    await read_until(second, b"from one\n")
    await first.close()
    await second.write(b"from two\n")  # to leave is not to end
    await read_until(second, b"from two\n")
    big = b"x" * 300_000 + b"\n"
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read_all(second))
        await second.write(big)
        await second.end_input()
    assert reading.result()[1] == big + b"over\n"
    with pytest.raises(Refused, match="closed"):
        await second.write(b"more")
    await second.close()


async def test_input_survives_its_keepers_one_by_one(rig: Rig) -> None:
    async with running(rig) as first:
        config = rig.shell("cat; echo over", stdin=True)
        await start(first, config)
        end(pid_of(rig, "logd.py"))
        old = pid_of(rig, "spawnd.py")
        await eventually(lambda: pid_of(rig, "logd.py") != 0)
        session = await first.attach(config.id)
        await session.write(b"a\n")
        await read_until(session, b"a\n")
        end(old)
        await eventually(lambda: pid_of(rig, "spawnd.py") not in (0, old))
        await session.write(b"b\n")
        await read_until(session, b"b\n")
        await session.end_input()
        assert b"over\n" in (await read_all(session))[1]
        assert await session.wait() == 0
        await session.close()


async def test_without_input_there_is_none_to_write_to(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("cat; echo over; sleep 1000")
    await start(runtime, config)
    session = await runtime.attach(config.id, logs=True)
    await read_until(session, b"over\n")
    with pytest.raises(Refused, match="without standard input"):
        await session.write(b"x")
    with pytest.raises(Refused, match="no terminal"):
        await session.resize(Size(1, 1))
    await session.close()


async def test_a_container_with_a_terminal(rig: Rig, runtime: LocalRuntime) -> None:
    script = (
        "tty; test -t 0 -a -t 1 -a -t 2 && echo all; echo $TERM; echo x > /dev/console; echo y > /dev/tty; "
        "stat -c '%u %g' /dev/console; trap 'stty size' WINCH; echo ready; "
        "while :; do read line; echo got $line; done"
    )
    config = rig.shell(script, tty=True, stdin=True)
    await runtime.create(config)
    session = await runtime.attach(config.id)
    await session.resize(Size(40, 100))
    await runtime.start(config.id)
    text = await read_until(session, b"ready\n")
    assert text.splitlines() == [b"/dev/pts/0", b"all", b"xterm", b"x", b"y", b"0 5", b"ready"]
    await session.write(b"hello\n")
    await read_until(session, b"got hello\n")
    await session.resize(Size(50, 132))
    await session.write(b"\n")
    await read_until(session, b"50 132\n")
    await session.write(b"\x03")
    assert await session.wait() == 130
    await session.close()
    lines = [line async for line in read_logs(runtime.container_dir(config.id), follow=True)]
    assert {line.stream for line in lines} == {"stdout"}
    assert b"got hello\r\n" in [line.data for line in lines]


async def test_a_terminal_outlives_each_of_its_keepers(rig: Rig, runtime: LocalRuntime) -> None:
    script = (
        "exec 3<>/dev/tty; exec 0</dev/null 1>/dev/null 2>&1; "
        "while read line <&3; do echo got $line >&3; done"
    )
    config = rig.shell(script, tty=True, stdin=True)
    await start(runtime, config)
    for keeper in ("logd.py", "spawnd.py", "logd.py"):
        old = pid_of(rig, keeper)
        end(old)
        await eventually(lambda keeper=keeper, old=old: pid_of(rig, keeper) not in (0, old))  # type: ignore[misc]
        session = await runtime.attach(config.id)
        await session.write(keeper.encode() + b"\n")
        await read_until(session, b"got " + keeper.encode())
        await session.close()
    state = await runtime.stop(config.id, grace=0)
    assert state.exit_code == 137


async def test_a_program_that_closes_its_terminal_for_a_while_is_not_hung_up(
    rig: Rig, runtime: LocalRuntime
) -> None:
    script = (
        "exec 0</dev/null 1>/dev/null 2>&1; while [ ! -e /tmp/go ]; do sleep 0.05; done; "
        "echo back > /dev/console; echo again > /dev/tty; sleep 1000"
    )
    config = rig.shell(script, tty=True)
    await runtime.create(config)
    session = await runtime.attach(config.id)
    await runtime.start(config.id)
    state = runtime.inspect(config.id)
    assert state is not None
    await eventually(lambda: os.readlink(f"/proc/{state.pid}/fd/1") == "/dev/null")
    Path(f"/proc/{state.pid}/root/tmp/go").touch()
    await read_until(session, b"back\nagain\n")
    await session.close()


async def test_a_daemon_that_comes_back_finds_the_terminal_and_the_input(rig: Rig) -> None:
    first = rig.runtime()
    await first.start_up()
    one = rig.shell("read line; echo one $line; sleep 1000", tty=True, stdin=True)
    two = rig.shell("cat", stdin=True)
    await start(first, one)
    await start(first, two)
    await first.shut_down(stop_containers=False)
    async with running(rig) as second:
        session = await second.attach(one.id)
        await session.write(b"here\n")
        await read_until(session, b"one here\n")
        await session.close()
        session = await second.attach(two.id)
        await session.write(b"there\n")
        await read_until(session, b"there\n")
        await session.end_input()
        assert await session.wait() == 0
        await session.close()


async def test_nothing_is_left_of_the_attached(rig: Rig, runtime: LocalRuntime) -> None:
    pids = [pid_of(rig, "spawnd.py"), pid_of(rig, "logd.py"), os.getpid()]

    def descriptors() -> list[int]:
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]

    async def one(*, tty: bool) -> None:
        config = rig.shell("cat", tty=tty, stdin=True)
        await start(runtime, config)
        session = await runtime.attach(config.id, logs=True)
        await session.write(b"hello\n")
        await read_until(session, b"hello\n")
        with contextlib.suppress(TimeoutError):  # cancelled in the middle of a read
            async with asyncio.timeout(0.01):
                await read_until(session, b"never")
        await session.close()
        await runtime.stop(config.id, grace=0)
        await runtime.remove(config.id)

    await one(tty=False)
    await one(tty=True)
    await eventually(lambda: os.listdir(rig.run / "ctr") == [])
    before = descriptors()
    for _ in range(5):
        await one(tty=False)
        await one(tty=True)
    # Not equal: what was let go of before may have been open still when they were counted.
    await eventually(lambda: all(now <= then for now, then in zip(descriptors(), before, strict=True)))
