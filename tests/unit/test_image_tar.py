"""Tar bytes → entries, compared with the standard library's idea of the same bytes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.image.core.tar import Kind, TarReader
from swarmd.model.errors import Invalid

_NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="/\\"), min_size=1)
_KINDS = {
    tarfile.REGTYPE: Kind.FILE, tarfile.DIRTYPE: Kind.DIR, tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.LNKTYPE: Kind.HARDLINK, tarfile.FIFOTYPE: Kind.FIFO, tarfile.CHRTYPE: Kind.CHAR,
}  # fmt: skip


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def pack(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def reading(data: bytes, piece: int = 1 << 20) -> Callable[[int], bytes]:
    source = io.BytesIO(data)
    return lambda count: source.read(min(count, piece))


def read(data: bytes, piece: int = 1 << 20) -> list[tuple[bytes, Kind, bytes]]:
    reader = TarReader(reading(data, piece))
    return [(entry.name, entry.kind, b"".join(reader.chunks())) for entry in reader]


@settings(max_examples=60, deadline=None)
@given(
    files=st.lists(st.tuples(_NAMES, st.binary(max_size=1500), st.sampled_from(list(_KINDS))), max_size=6),
    owner=st.integers(0, 2**32 - 2),
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    piece=st.sampled_from([1, 100, 512, 1 << 20]),
)
def test_entries_are_what_the_standard_library_wrote(
    files: list[tuple[str, bytes, bytes]], owner: int, form: int, piece: int
) -> None:
    archive = pack(
        *(
            (
                member(name, kind, uid=owner, gid=owner, mode=0o4755, linkname=name[::-1] * 20),
                data if kind == tarfile.REGTYPE else b"",
            )
            for name, data, kind in files
        ),
        form=form,
    )
    reader = TarReader(reading(archive, piece))
    for (name, data, kind), entry in zip(files, reader, strict=True):
        found = (entry.name.rstrip(b"/"), entry.kind, entry.uid, entry.gid, entry.mode)
        assert found == (name.encode(), _KINDS[kind], owner, owner, 0o4755)
        if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            assert entry.link == name[::-1].encode() * 20
        assert b"".join(reader.chunks()) == (data if kind == tarfile.REGTYPE else b"")


def test_data_that_nobody_reads_is_skipped() -> None:
    archive = pack((member("a"), b"x" * 5000), (member("b"), b""))
    assert [entry.name for entry in TarReader(reading(archive))] == [b"a", b"b"]


def test_times_keep_their_nanoseconds_and_attributes_their_bytes() -> None:
    info = member("a", pax_headers={"mtime": "12.3456789019", "SCHILY.xattr.user.k": "v=\n1"})
    entry = next(iter(TarReader(reading(pack((info, b""))))))
    assert entry.mtime_ns == 12_345_678_901
    assert entry.xattrs == ((b"user.k", b"v=\n1"),)


def test_a_name_split_into_prefix_and_rest_is_joined() -> None:
    name = "d" * 100 + "/" + "f" * 90
    assert read(pack((member(name), b"1"), form=tarfile.USTAR_FORMAT)) == [(name.encode(), Kind.FILE, b"1")]


def test_an_archive_without_its_end_marker_is_taken() -> None:
    archive = pack((member("a"), b"x" * 512))
    assert read(archive[:1024]) == [(b"a", Kind.FILE, b"x" * 512)]


@pytest.mark.parametrize("cut", [100, 700, 1000])
def test_an_archive_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(Invalid, match=r"cut short|middle of a file"):
        read(pack((member("a"), b"x" * 600))[:cut])


def test_what_is_no_tar_is_refused() -> None:
    with pytest.raises(Invalid, match="not a tar archive"):
        read(b"hello world " * 100)


def test_a_huge_extended_header_is_refused_before_it_is_read() -> None:
    header = bytearray(pack((member("x", b"x"), b""))[:512])
    header[124:136] = b"%011o\0" % (2 << 30)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(Invalid, match="extended tar header of 2147483648 bytes"):
        read(bytes(header))


@pytest.mark.parametrize("record", [b"5 a=b\n", b"999 path=x\n", b"x", b"0 a=b\n", b"8 path\nx"])
def test_a_damaged_pax_record_is_refused(record: bytes) -> None:
    with pytest.raises(Invalid, match="pax record"):
        read(pack((member("h", b"x"), record), (member("a"), b"")))


def test_sparse_files_and_unknown_types_are_refused() -> None:
    sparse = member("a", pax_headers={"GNU.sparse.major": "1"})
    with pytest.raises(Invalid, match="sparse"):
        read(pack((sparse, b"")))
    with pytest.raises(Invalid, match="type b'Z'"):
        read(pack((member("a", b"Z"), b"")))


def test_owners_and_devices_out_of_range_are_refused() -> None:
    with pytest.raises(Invalid, match="owner 4294967295"):
        read(pack((member("a", uid=2**32 - 1), b"")))
    with pytest.raises(Invalid, match="device 4096:0"):
        read(pack((member("a", tarfile.CHRTYPE, devmajor=4096, devminor=0), b"")))
