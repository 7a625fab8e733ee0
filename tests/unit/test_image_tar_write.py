"""Tar headers written: what our reader and Python's make of them."""

from __future__ import annotations

import io
import tarfile

import pytest

from swarmd.image.core.tar import Entry, Kind, TarReader
from swarmd.image.core.tar_write import END, header, padding

LONG = b"d" * 90 + b"/" + b"e" * 60 + b"/" + b"f" * 90
TOO_LONG = b"/".join([b"n" * 200] * 5)

ENTRIES = (
    Entry(b"plain", Kind.FILE, 0o4755, 1, 2, size=5, mtime_ns=7 * 10**9),
    Entry(b"dir/", Kind.DIR, 0o1777),
    Entry(LONG, Kind.FILE),
    Entry(TOO_LONG, Kind.FILE, size=3),
    Entry("é/ü".encode(), Kind.FILE),
    Entry(b"\xff\xfe", Kind.FILE),
    Entry(b"link", Kind.SYMLINK, 0o777, link=b"t" * 100),
    Entry(b"longlink", Kind.SYMLINK, 0o777, link=b"t" * 101),
    Entry(b"hard", Kind.HARDLINK, link=b"plain"),
    Entry(b"null", Kind.CHAR, 0o666, device=(1, 3)),
    Entry(b"disk", Kind.BLOCK, device=(4095, 1048575)),
    Entry(b"fifo", Kind.FIFO),
    Entry(b"owned", Kind.FILE, uid=4_000_000_000, gid=2_097_152),
    Entry(b"old", Kind.FILE, mtime_ns=-5 * 10**9),
    Entry(b"late", Kind.FILE, mtime_ns=(1 << 31) * 10**9),
    Entry(b"noted", Kind.FILE, xattrs=((b"security.capability", b"\x01\x00\n="), (b"user.a", b""))),
)


def written(*entries: Entry) -> bytes:
    pieces = [header(entry) + bytes(entry.size) + padding(entry.size) for entry in entries]
    return b"".join([*pieces, END])


def read(data: bytes) -> list[Entry]:
    return list(TarReader(io.BytesIO(data).read))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: repr(entry.name[:12]))
def test_what_is_written_is_read_back(entry: Entry) -> None:
    assert read(written(entry, Entry(b"next", Kind.FILE))) == [entry, Entry(b"next", Kind.FILE)]


def test_python_reads_the_same_names_owners_and_sizes() -> None:
    with tarfile.open(fileobj=io.BytesIO(written(*ENTRIES))) as tar:
        members = tar.getmembers()
    assert [member.name.encode("utf-8", "surrogateescape") for member in members] == [
        entry.name.rstrip(b"/") for entry in ENTRIES
    ]
    for member, entry in zip(members, ENTRIES, strict=True):
        assert (member.uid, member.gid, member.mode, member.mtime) == (
            entry.uid,
            entry.gid,
            entry.mode,
            entry.mtime_ns / 10**9,
        )


def test_a_file_of_more_than_eight_gigabytes_says_so_in_pax() -> None:
    size = (8 << 30) + 1
    head = header(Entry(b"big", Kind.FILE, size=size))
    reader = TarReader(io.BytesIO(head).read)
    assert next(iter(reader)).size == size


def test_parts_of_seconds_are_left_out() -> None:
    assert header(Entry(b"x", Kind.FILE, mtime_ns=1_999_999_999)) == header(
        Entry(b"x", Kind.FILE, mtime_ns=1_000_000_000)
    )


@pytest.mark.parametrize("length", range(85, 125))
def test_a_pax_record_counts_its_own_length(length: int) -> None:
    """Around a hundred the number of digits changes."""
    entry = Entry(b"x", Kind.FILE, xattrs=((b"user.a", b"v" * length),))
    assert read(written(entry)) == [entry]
