"""The file of the audit log: in order, private, rotated, and no trouble for anybody when the disk is."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from swarmd.kit.clock import SystemClock
from swarmd.model.errors import Unavailable
from swarmd.telemetry import audit_file
from swarmd.telemetry.audit_file import RETRY, AuditFile
from tests.unit.test_control_bed import ManualClock


class Rig:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock()
        self.file = AuditFile(path, self.clock, lambda name, error: None, file_bytes=100, files=3)

    async def all(self, tail: int = -1) -> list[bytes]:
        async with asyncio.timeout(60):
            return [line async for line in self.file.lines(tail=tail, follow=False)]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "audit.log")
    rig.file.start()
    yield rig
    await rig.file.close()


async def until(condition: Any, rig: Rig) -> None:
    """Each look comes after the file has been read, which it is by the task that writes."""
    async with asyncio.timeout(60):
        while not condition():
            await rig.all(0)


async def test_lines_are_in_order_in_a_file_for_root_alone(rig: Rig) -> None:
    for number in range(5):
        rig.file.append(b"line%d" % number)
    assert await rig.all() == [b"line0", b"line1", b"line2", b"line3", b"line4"]
    assert await rig.all(2) == [b"line3", b"line4"]
    assert await rig.all(0) == []
    assert rig.path.read_bytes() == b"line0\nline1\nline2\nline3\nline4\n"
    assert rig.path.stat().st_mode & 0o777 == 0o600


async def test_the_oldest_lines_go_when_the_files_are_full(rig: Rig) -> None:
    for number in range(20):
        rig.file.append(b"%02d" % number * 15)  # 31 bytes with their end: three to a file
        await rig.all(0)
    sizes = [part.stat().st_size for part in rig.path.parent.iterdir()]
    assert len(sizes) == 3
    assert max(sizes) <= 100
    found = await rig.all()
    assert [int(line[:2]) for line in found] == list(range(20 - len(found), 20))
    assert len(found) > 6
    assert await rig.all(4) == found[-4:]


async def test_who_follows_misses_nothing_and_sees_nothing_twice(rig: Rig) -> None:
    rig.file.append(b"old")
    seen: list[bytes] = []

    async def follow() -> None:
        async for line in rig.file.lines(tail=-1, follow=True):
            seen.append(line)  # noqa: PERF401 - looked at while it grows

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        following = group.create_task(follow())
        for number in range(50):
            rig.file.append(b"%d" % number)
            await asyncio.sleep(0)
        await until(lambda: seen[-1:] == [b"49"], rig)
        following.cancel()
    assert seen == [b"old", *(b"%d" % number for number in range(50))]


async def test_what_waits_at_the_end_is_written(rig: Rig) -> None:
    rig.file.append(b"last")
    await rig.file.close()
    assert rig.path.read_bytes() == b"last\n"


async def test_a_full_disk_is_said_and_made_up_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    real, full = os.write, True

    def write(fd: int, data: Any) -> int:
        if full and len(data) > 3:
            return real(fd, data[:3])  # part of a line
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    monkeypatch.setattr(audit_file.os, "write", write)
    rig.file.append(b"kept")
    await until(rig.file.problems, rig)
    (problem,) = rig.file.problems()
    assert "cannot be written: No space left on device" in problem
    assert rig.path.read_bytes() == b"", "half a line is taken back"
    full = False
    rig.clock.advance(RETRY)
    await until(lambda: not rig.file.problems(), rig)
    assert rig.path.read_bytes() == b"kept\n"


async def test_a_disk_that_stays_full_costs_lines_and_not_memory(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_file, "MOST_WAITING", 3)
    rig.path.mkdir()  # what cannot be opened to write
    for number in range(5):
        rig.file.append(b"%d" % number)
    await until(lambda: len(rig.file.problems()) == 2, rig)
    assert rig.file.problems()[1].startswith("2 calls are missing from the audit log")
    with pytest.raises(Unavailable, match="cannot be read"):
        await rig.all()


async def the_rest(lines: AsyncIterator[bytes]) -> list[bytes]:
    return [line async for line in lines]


async def test_who_reads_too_slowly_is_told_so(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_file, "MOST_WAITING", 3)
    slow = rig.file.lines(tail=-1, follow=True)
    rig.file.append(b"first")
    assert await anext(slow) == b"first"
    for number in range(6):
        rig.file.append(b"%d" % number)
        await rig.all(0)
    with pytest.raises(Unavailable, match="faster than this command reads it"):
        await asyncio.wait_for(the_rest(slow), 60)


async def test_appending_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    file = AuditFile(tmp_path / "audit.log", SystemClock(), lambda name, error: None)
    file.append(b"before it starts")
    file.start()
    await file.close()
    assert (tmp_path / "audit.log").read_bytes() == b"before it starts\n"
