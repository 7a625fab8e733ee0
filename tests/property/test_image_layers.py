"""Whatever is in a tar, our reader and Python's agree; whatever bytes: entries, or an error in words."""

from __future__ import annotations

import io
import tarfile

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.image.core.rules import Act, Limits, step_for
from swarmd.image.core.tar import Entry, Kind, TarReader
from swarmd.image.core.tar_write import END, header, padding
from swarmd.model.errors import Invalid

NAMES = st.text(
    st.characters(blacklist_characters="\0/", blacklist_categories=("Cs",)), min_size=1, max_size=150
).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
KINDS = {Kind.FILE: tarfile.REGTYPE, Kind.DIR: tarfile.DIRTYPE, Kind.SYMLINK: tarfile.SYMTYPE,
         Kind.HARDLINK: tarfile.LNKTYPE, Kind.FIFO: tarfile.FIFOTYPE}  # fmt: skip


ATTRIBUTES = st.dictionaries(
    NAMES.map(lambda key: b"user." + key.encode().replace(b"=", b"-")), st.binary(max_size=99), max_size=3
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(list(KINDS)))
    name = draw(PATHS).encode()
    return Entry(
        name=name + b"/" if kind is Kind.DIR else name,
        kind=kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(st.integers(0, (1 << 32) - 2)),
        gid=draw(st.integers(0, (1 << 32) - 2)),
        size=draw(st.integers(0, 2000)) if kind is Kind.FILE else 0,
        mtime_ns=draw(st.integers(-(1 << 31), 1 << 31)) * 10**9,
        link=draw(PATHS).encode() if kind in (Kind.SYMLINK, Kind.HARDLINK) else b"",
        xattrs=tuple(sorted(draw(ATTRIBUTES).items())) if kind is Kind.FILE else (),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(entries(), max_size=6))
def test_entries_written_are_read_back_and_python_reads_them_too(made: list[Entry]) -> None:
    data = b"".join(header(each) + b"x" * each.size + padding(each.size) for each in made) + END
    assert list(TarReader(io.BytesIO(data).read)) == made
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = tar.getmembers()
    for member, each in zip(found, made, strict=True):
        assert member.name.encode("utf-8", "surrogateescape") == each.name.rstrip(b"/")
        assert (member.type, member.uid, member.gid, member.mode, member.size) == (
            KINDS[each.kind], each.uid, each.gid, each.mode, each.size,
        )  # fmt: skip
        assert member.linkname.encode() == each.link


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_archives_give_entries_or_an_error_in_words(data: st.DataObject) -> None:
    made = data.draw(st.lists(entries(), min_size=1, max_size=3))
    raw = bytearray(b"".join(header(each) + bytes(each.size) + padding(each.size) for each in made) + END)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        for entry in TarReader(io.BytesIO(raw).read):
            assert b".." not in step_for(entry, Limits()).parts
    except Invalid:
        return


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"..", b".", b"", b"a", b".wh.a", b".wh...", b".wh..wh..opq", b".wh."]), max_size=6
    )
)
def test_no_name_leads_out_of_the_root(parts: list[bytes]) -> None:
    try:
        step = step_for(Entry(b"/".join(parts), Kind.FILE), Limits())
    except Invalid:
        return
    assert not {b"..", b".", b""} & set(step.parts)
    assert step.act in Act
