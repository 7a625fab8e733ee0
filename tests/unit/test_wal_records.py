"""The write-ahead log: what a crash may do to it, what it must never forgive."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.store.raft.files import DiskFailed, SystemDisk
from swarmd.store.raft.records import (
    HEADER_SIZE,
    Corrupt,
    Entry,
    Hard,
    Item,
    Truncate,
    encode_record,
    file_header,
    recover,
)
from swarmd.store.raft.wal import Wal, replay

BATCHES: list[list[Item]] = [
    [Hard(1, "a"), Entry(2, 1, b"first")],
    [Entry(3, 1, b"second"), Entry(4, 1, b"third" * 300)],
    [Truncate(4), Hard(2, None), Entry(4, 2, b"other")],
]


def whole_log(batches: list[list[Item]] = BATCHES) -> tuple[bytes, list[int]]:
    """The file's bytes, and where each record begins."""
    data, crc, starts = file_header(7), 0, []
    for number, batch in enumerate(batches, 1):
        starts.append(len(data))
        record, crc = encode_record(batch, number, crc)
        data += record
    return data, starts


def written(path: Path) -> Wal:
    wal = Wal(path, 7, SystemDisk())
    for batch in BATCHES:
        wal.commit(batch)
    return wal


def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    written(tmp_path / "log").close()
    again = Wal(tmp_path / "log", 7, SystemDisk())
    state = again.state
    again.close()
    assert [(e.index, e.term, e.command) for e in state.entries] == [
        (2, 1, b"first"),
        (3, 1, b"second"),
        (4, 2, b"other"),
    ]
    assert (state.term, state.vote) == (2, None)


def test_commits_after_a_restart_follow_those_before(tmp_path: Path) -> None:
    written(tmp_path / "log").close()
    again = Wal(tmp_path / "log", 7, SystemDisk())
    again.commit([Entry(5, 2, b"later")])
    again.close()
    third = Wal(tmp_path / "log", 7, SystemDisk())
    third.close()
    assert third.state.entries[-1] == Entry(5, 2, b"later")


def test_a_last_record_torn_at_any_byte_is_taken_back_whole() -> None:
    data, starts = whole_log()
    for end in range(starts[-1], len(data)):
        found = recover(data[:end], 7, "log")
        assert found.good_bytes == starts[-1]
        assert found.items == [item for batch in BATCHES[:2] for item in batch]


def test_a_last_record_whose_later_sectors_never_arrived_is_taken_back() -> None:
    data, starts = whole_log(BATCHES[:2])
    first_boundary = (starts[-1] // 512 + 1) * 512
    for boundary in range(first_boundary, len(data), 512):
        torn = data[:boundary] + bytes(len(data) - boundary)
        assert recover(torn, 7, "log").good_bytes == starts[-1]


def test_zeros_behind_the_last_record_are_a_torn_tail() -> None:
    data, _ = whole_log()
    assert recover(data + bytes(100), 7, "log").good_bytes == len(data)


@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_a_flipped_byte_before_the_last_record_is_refused(mask: int) -> None:
    data, starts = whole_log()
    for position in range(starts[-1]):
        harmed = bytearray(data)
        harmed[position] ^= mask
        with pytest.raises(Corrupt, match="damaged at byte"):
            recover(bytes(harmed), 7, "log")


@pytest.mark.parametrize("shift", [0, 470, 490, 500])
def test_a_flipped_bit_in_a_complete_last_record_is_refused_since_it_was_promised(shift: int) -> None:
    """Wherever it is in the record, and wherever the record's head is in a sector."""
    data, starts = whole_log([[Entry(2, 1, b"x" * shift)], *BATCHES])
    for position in range(starts[-1], len(data)):
        for bit in range(8):
            harmed = bytearray(data)
            harmed[position] ^= 1 << bit
            with pytest.raises(Corrupt, match="last record"):
                recover(bytes(harmed), 7, "log")


@pytest.mark.parametrize("filler", range(440, 520, 3))
def test_a_last_record_of_which_any_sectors_are_missing_is_taken_back(filler: int) -> None:
    data, starts = whole_log([[Entry(2, 1, b"x" * filler)], [Entry(3, 1, b"third" * 300)]])
    edges = [starts[-1], *range((starts[-1] // 512 + 1) * 512, len(data), 512), len(data)]
    for missing in range(1, 1 << (len(edges) - 1)):
        torn = bytearray(data)
        for number, (start, stop) in enumerate(itertools.pairwise(edges)):
            if missing >> number & 1:
                torn[start:stop] = bytes(stop - start)
        assert recover(bytes(torn), 7, "log").good_bytes == starts[-1]


def test_a_record_missing_in_the_middle_is_refused() -> None:
    data, starts = whole_log()
    with pytest.raises(Corrupt):
        recover(data[: starts[1]] + data[starts[2] :], 7, "log")


def test_the_log_of_another_epoch_is_refused() -> None:
    data, _ = whole_log()
    with pytest.raises(Corrupt, match="header"):
        recover(data, 8, "log")


def test_after_a_torn_tail_the_log_goes_on_from_the_last_whole_record(tmp_path: Path) -> None:
    written(tmp_path / "log").close()
    size = (tmp_path / "log").stat().st_size
    os.truncate(tmp_path / "log", size - 3)
    again = Wal(tmp_path / "log", 7, SystemDisk())
    assert [e.index for e in again.state.entries] == [2, 3, 4]
    assert again.state.term == 1
    again.commit([Hard(5, "b")])
    again.close()
    third = Wal(tmp_path / "log", 7, SystemDisk())
    third.close()
    assert (third.state.term, third.state.vote) == (5, "b")


@pytest.mark.parametrize("length", range(HEADER_SIZE + 1))
def test_a_file_whose_header_never_became_durable_begins_anew(tmp_path: Path, length: int) -> None:
    (tmp_path / "log").write_bytes(file_header(7)[:length])
    wal = Wal(tmp_path / "log", 7, SystemDisk())
    wal.close()
    assert wal.state.entries == []


class FailingDisk(SystemDisk):
    """Fails the next call named by ``broken``."""

    def __init__(self) -> None:
        self.broken = ""
        self.code = errno.ENOSPC

    def write(self, fd: int, data: bytes) -> None:
        if self.broken == "write":
            super().write(fd, data[: len(data) // 2])
            raise OSError(self.code, os.strerror(self.code))
        super().write(fd, data)

    def sync(self, fd: int) -> None:
        if self.broken == "sync":
            raise OSError(self.code, os.strerror(self.code))
        super().sync(fd)


@pytest.mark.parametrize("broken", ["write", "sync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_after_a_failed_write_nothing_more_is_promised_even_if_the_disk_recovers(
    tmp_path: Path, broken: str, code: int
) -> None:
    disk = FailingDisk()
    wal = Wal(tmp_path / "log", 7, disk)
    wal.commit(BATCHES[0])
    disk.broken, disk.code = broken, code
    with pytest.raises(DiskFailed, match=os.strerror(code)):
        wal.commit(BATCHES[1])
    disk.broken = ""
    with pytest.raises(DiskFailed):
        wal.commit(BATCHES[1])
    wal.close()
    again = Wal(tmp_path / "log", 7, SystemDisk())
    again.close()
    assert again.state.entries[0] == Entry(2, 1, b"first")


def test_entries_that_do_not_follow_one_another_are_refused() -> None:
    with pytest.raises(Corrupt, match="entry 4 where 3 is due"):
        replay([Entry(2, 1, b""), Entry(4, 1, b"")], "log")
    with pytest.raises(Corrupt, match="takes back entry 9"):
        replay([Entry(2, 1, b""), Truncate(9)], "log")


@given(st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=3), max_size=6))
def test_any_commits_read_back_as_they_were(commits: list[list[bytes]]) -> None:
    index, batches = 1, []
    for commit in commits:
        batch: list[Item] = []
        for command in commit:
            index += 1
            batch.append(Entry(index, 1, command))
        batches.append(batch)
    data, _ = whole_log(batches)
    assert recover(data, 7, "log").items == [item for batch in batches for item in batch]
