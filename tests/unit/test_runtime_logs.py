"""Log records, and a reader of files that are written, rotated and torn."""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.kit.trees import remove_tree
from swarmd.node.runtime import rundir
from swarmd.node.runtime.core import logrecord
from swarmd.node.runtime.core.cgroups import ContainerGroups
from swarmd.node.runtime.core.logformat import decode, previous
from swarmd.node.runtime.core.logrecord import (
    END,
    OVERHEAD,
    PIECE,
    STDERR,
    STDOUT,
    encode,
    intact,
    whole_lines,
)
from swarmd.node.runtime.logd import Pump
from swarmd.node.runtime.logd_budget import SHARE, Budget
from swarmd.node.runtime.logd_source import PipeSource, Scratch
from swarmd.node.runtime.logfiles import LogFiles
from swarmd.node.runtime.logs import read_logs
from swarmd.node.runtime.port import ContainerConfig
from swarmd.node.runtime.storage import Storage, Stored

RECORDS = st.lists(
    st.tuples(st.integers(0, 2**63), st.sampled_from([STDOUT, STDERR]), st.binary(max_size=40))
)


@given(RECORDS, st.integers(0, 60))
def test_what_is_written_is_read_and_a_torn_end_is_left(
    records: list[tuple[int, int, bytes]], cut: int
) -> None:
    whole = b"".join(encode(*record) for record in records)
    torn = encode(1, STDOUT, b"x" * 60)[:cut]
    found, used = decode(whole + torn)
    assert [(record.time, record.stream, record.data) for record in found] == records
    assert used == intact(whole + torn) == len(whole)


@given(RECORDS.filter(bool))
def test_records_can_be_walked_backwards(records: list[tuple[int, int, bytes]]) -> None:
    whole = b"".join(encode(*record) for record in records)
    end, seen = len(whole), []
    while end:
        length = previous(whole[end - logrecord.TRAILER.size : end])
        seen.append(decode(whole[end - length : end])[0][0].data)
        end -= length
    assert seen[::-1] == [data for _, _, data in records]


@pytest.fixture
def pipe() -> Iterator[tuple[PipeSource, int]]:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    scratch = Scratch()
    yield PipeSource(reading, STDOUT, scratch), writing
    for fd in (reading, writing, scratch.reading, scratch.writing, scratch.nowhere):
        with contextlib.suppress(OSError):
            os.close(fd)


def left_in(source: PipeSource) -> bytes:
    try:
        return os.read(source.fd, 100_000)
    except BlockingIOError:
        return b""


@given(st.lists(st.binary(min_size=1, max_size=50)))
def test_whole_lines_are_cut_off_and_what_is_left_has_no_newline(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    cut = whole_lines(data)
    assert b"\n" not in data[cut:]
    assert cut == 0 or data[cut - 1 : cut] == b"\n"


def test_an_endless_line_is_written_in_pieces() -> None:
    assert whole_lines(b"a" * (PIECE - 1)) == 0
    assert whole_lines(b"a" * PIECE) == PIECE
    assert whole_lines(b"b\n" + b"a" * (PIECE - 1)) == 2


def test_a_pipe_keeps_what_is_not_in_the_log_yet(pipe: tuple[PipeSource, int]) -> None:
    source, writing = pipe
    assert source.read() is None
    os.write(writing, b"one\ntw")
    assert source.read() == b"one\ntw"
    assert (source.ready, source.rest) == (b"one\n", b"tw")
    source.written()
    assert source.read() is None
    os.write(writing, b"o\n")
    assert source.read() == b"o\n"
    assert source.ready == b"two\n"
    assert left_in(source) == b"two\n"  # had the pump been killed here


def test_the_end_of_a_pipe_gives_a_last_line_without_its_newline(pipe: tuple[PipeSource, int]) -> None:
    source, writing = pipe
    os.write(writing, b"three")
    assert source.read() == b"three"
    os.close(writing)
    source.hung_up = True
    assert (source.read(), source.ready, source.rest) == (b"", b"three", b"")
    source.written()
    assert (source.read(), source.ready) == (b"", b"")


def test_a_budget_is_for_one_tenth_of_a_second() -> None:
    budget = Budget()
    budget.spend("flood", SHARE + 1, 5.01)
    assert budget.is_spent("flood", 5.02)
    assert not budget.is_spent("other", 5.02)
    assert budget.until_next(5.02) == pytest.approx(0.08)
    assert not budget.is_spent("flood", 5.1)
    for number in range(5):
        budget.spend(f"flood {number}", SHARE, 5.11)
    assert budget.is_spent("other", 5.12)


def test_lines_keep_their_carriage_returns_and_a_missing_newline() -> None:
    (record,), _ = decode(encode(1_500_000_000, STDERR, b"a\r\nb\rc\n\nd"))
    assert [line.data for line in record.lines()] == [b"a\r\n", b"b\rc\n", b"\n", b"d"]
    assert {(line.time, line.stream) for line in record.lines()} == {(1.5, "stderr")}
    assert list(decode(encode(1, END, b""))[0][0].lines()) == []


def test_file_names_sort_by_age() -> None:
    assert logrecord.file_numbers(["00000010.log", "00000009.log", "x.log", "lock"]) == [9, 10]


async def lines(directory: Path, **how: object) -> list[bytes]:
    return [line.data async for line in read_logs(directory, **how)]  # type: ignore[arg-type]


async def test_files_rotate_and_the_oldest_goes(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    files = LogFiles(str(tmp_path / "log"), 200, 2)
    for number in range(40):
        files.write(STDOUT, b"%02d\n" % number)
    files.close()
    kept = sorted((tmp_path / "log").iterdir())
    assert len(kept) == 2
    assert all(path.stat().st_size <= 200 for path in kept)
    text = await lines(tmp_path)
    assert text == [b"%02d\n" % number for number in range(40 - len(text), 40)]
    assert await lines(tmp_path, tail=12) == text[-12:]
    assert await lines(tmp_path, tail=0) == []
    assert await lines(tmp_path, tail=1000) == text


async def test_a_torn_record_is_cut_by_the_next_pump(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    first = LogFiles(str(tmp_path / "log"), 0, 1)
    first.write(STDOUT, b"one\n")
    first.close()
    path = tmp_path / "log/00000001.log"
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(encode(2, STDOUT, b"lost\n")[: OVERHEAD + 2])
    assert await lines(tmp_path) == [b"one\n"]
    assert await lines(tmp_path, tail=5) == [b"one\n"]
    second = LogFiles(str(tmp_path / "log"), 0, 1)
    assert path.stat().st_size == whole
    second.write(STDOUT, b"two\n")
    second.write(END, b"")
    second.close()
    assert await lines(tmp_path, follow=True) == [b"one\n", b"two\n"]
    assert await lines(tmp_path, tail=1, follow=True) == [b"two\n"]


async def test_a_container_without_a_log_has_no_lines(tmp_path: Path) -> None:
    assert await lines(tmp_path / "nothing", follow=True) == []


async def test_who_follows_a_program_that_runs_again_waits_for_what_it_will_say(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "data", tmp_path / "run")
    storage.prepare()
    directory = storage.directory("again")
    (directory / "log").mkdir(parents=True)

    def say(words: bytes) -> None:
        files = LogFiles(str(directory / "log"), 0, 1)
        files.write(STDOUT, words)
        files.write(END, b"")
        files.close()

    say(b"one\n")
    config = ContainerConfig(id="again", lower_dirs=(str(tmp_path),), args=("true",))
    storage.make(Stored(config, ContainerGroups("", {}), 1.0))
    said = read_logs(directory, follow=True)
    assert (await anext(said)).data == b"one\n"
    more = asyncio.ensure_future(anext(said))
    for _ in range(50):  # all that it does before it waits
        await asyncio.sleep(0)
    assert not more.done()
    say(b"two\n")
    async with asyncio.timeout(60):
        assert (await more).data == b"two\n"
        assert [line async for line in said] == []
    assert await lines(directory) == [b"one\n", b"two\n"]


async def test_who_follows_with_a_file_open_hears_that_the_directory_is_removed(tmp_path: Path) -> None:
    (tmp_path / "box/log").mkdir(parents=True)
    files = LogFiles(str(tmp_path / "box/log"), 0, 1)
    files.write(STDOUT, b"one\n")
    said = read_logs(tmp_path / "box", follow=True)
    assert (await anext(said)).data == b"one\n"
    more = asyncio.ensure_future(anext(said, None))
    for _ in range(50):  # all that it does before it waits
        await asyncio.sleep(0)
    assert not more.done()
    files.close()
    remove_tree(tmp_path / "box")
    async with asyncio.timeout(60):
        assert await more is None


def test_a_new_pump_says_first_what_is_held_back(tmp_path: Path) -> None:
    """Whoever was attached to the one before has heard that already."""
    directory = tmp_path / "ctr/box"
    directory.mkdir(parents=True)
    (tmp_path / "log").mkdir()
    (directory / "log").write_bytes(marshal.dumps((str(tmp_path / "log"), 0, 1)))
    for name in rundir.PIPES:
        os.mkfifo(directory / name)
    ends = rundir.open_pipes(str(tmp_path), "box", os.O_RDWR)
    os.write(ends[0], b"whole\nhalf ")
    pump = Pump(str(tmp_path))
    pump._open("box", [])
    assert pump._mark("box") == (1, (tmp_path / "log/00000001.log").stat().st_size, b"half ", b"")
    pump._drop("box")
    pump._live._server.close()
    for end in ends:
        os.close(end)


async def test_hundreds_follow_with_one_descriptor_and_hear_each_line(tmp_path: Path) -> None:
    """The kernel gives a user 128 inotify descriptors."""
    files = []
    for number in range(20):
        (tmp_path / str(number) / "log").mkdir(parents=True)
        files.append(LogFiles(str(tmp_path / str(number) / "log"), 0, 1))
    heard: list[list[bytes]] = [[] for _ in range(300)]

    async def follow(reader: int) -> None:
        async for line in read_logs(tmp_path / str(reader % 20), follow=True):
            heard[reader].append(line.data)

    before = len(os.listdir("/proc/self/fd"))
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for reader in range(300):
            group.create_task(follow(reader))
        await asyncio.sleep(0)
        for number, each in enumerate(files):
            each.write(STDOUT, b"%d\n" % number)
        while not all(heard):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert sum("inotify" in link(fd) for fd in os.listdir("/proc/self/fd")) == 1
        for each in files:
            each.write(END, b"")
    assert heard == [[b"%d\n" % (reader % 20)] for reader in range(300)]
    for each in files:
        each.close()
    assert len(os.listdir("/proc/self/fd")) <= before


def link(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""
