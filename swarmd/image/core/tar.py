"""Tar bytes → entries: ustar, pax and GNU headers, streamed.  Pure: it is handed a ``read``.

Names stay bytes.  Everything a header can make us hold in memory is bounded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from enum import Enum
from typing import NoReturn

import msgspec

from swarmd.model.errors import Invalid

BLOCK = 512
CHUNK = 1 << 20
_MAX_EXTENDED = 1 << 20
_ZERO = bytes(BLOCK)
_MAX_NUMBER = 1 << 63
_MAX_OWNER = (1 << 32) - 2
_MAX_TIME = (1 << 31) * 10**9

Read = Callable[[int], bytes]


class Kind(Enum):
    """What an entry makes."""

    FILE = "file"
    HARDLINK = "hard link"
    SYMLINK = "symbolic link"
    CHAR = "character device"
    BLOCK = "block device"
    DIR = "directory"
    FIFO = "fifo"


_KINDS = {
    b"0": Kind.FILE, b"\0": Kind.FILE, b"7": Kind.FILE, b"1": Kind.HARDLINK, b"2": Kind.SYMLINK,
    b"3": Kind.CHAR, b"4": Kind.BLOCK, b"5": Kind.DIR, b"6": Kind.FIFO,
}  # fmt: skip


class Entry(msgspec.Struct, frozen=True):
    """One member.  ``name`` and ``link`` as written, ``size`` in bytes (files only), times in ns."""

    name: bytes
    kind: Kind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


class TarReader:
    """Iterate for entries; between two of them, :meth:`chunks` gives the current one's data.

    ``read(n)`` returns at most ``n`` bytes, and ``b""`` at the end.  Raises :class:`Invalid` for
    what is not a tar archive, is cut short, or has headers beyond any honest size.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._left = 0
        self._padding = 0
        self._global: dict[bytes, bytes] = {}

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            yield entry

    def chunks(self) -> Iterator[bytes]:
        """What is left of the current entry's data, in pieces of at most 1 MiB."""
        while self._left:
            piece = self._read(min(self._left, CHUNK))
            if not piece:
                _bad("the tar archive ends in the middle of a file")
            self._left -= len(piece)
            yield piece

    def drain(self) -> None:
        """Read to the end of the stream, so that a digest taken below covers all of it."""
        while self._read(CHUNK):
            pass

    def _next(self) -> Entry | None:
        local: dict[bytes, bytes] = {}
        while True:
            for _ in self.chunks():
                pass
            self._skip_padding()
            header = self._header()
            if header is None:
                return None
            kind, size = header[156:157], _number(header[124:136], "size")
            if kind in b"xgLKV":
                self._extension(kind, size, local)
                continue
            return self._entry(header, kind, size, self._global | local)

    def _skip_padding(self) -> None:
        """After the last file it may be missing: umoci, and Go programs that do not close, leave it out."""
        while self._padding and (piece := self._read(self._padding)):
            self._padding -= len(piece)
        self._padding = 0

    def _header(self) -> bytes | None:
        first = self._read(BLOCK)
        if not first:
            return None
        header = first + self._exactly(BLOCK - len(first))
        if header == _ZERO:
            return None
        _check_sum(header)
        return header

    def _extension(self, kind: bytes, size: int, local: dict[bytes, bytes]) -> None:
        """Take in a pax header or a GNU long name, which speak of the entry that follows."""
        if size > _MAX_EXTENDED:
            _bad(f"an extended tar header of {size} bytes is refused: the limit is {_MAX_EXTENDED}")
        data = self._exactly(size)
        self._exactly(-size % BLOCK)
        if kind == b"x":
            local.update(_pax(data))
        elif kind == b"g":
            self._global.update(_pax(data))
        elif kind == b"L":
            local[b"path"] = data.split(b"\0", 1)[0]
        elif kind == b"K":
            local[b"linkpath"] = data.split(b"\0", 1)[0]

    def _entry(self, header: bytes, kind: bytes, size: int, pax: dict[bytes, bytes]) -> Entry:
        if kind == b"S" or (pax and any(key.startswith(b"GNU.sparse.") for key in pax)):
            _bad("sparse files in a tar archive are not supported: pack it without --sparse")
        if kind not in _KINDS:
            _bad(f"tar entry type {kind!r} is not supported")
        name = pax.get(b"path") or _name(header)
        what = _KINDS[kind]
        if what is Kind.FILE and name.endswith(b"/"):
            what = Kind.DIR
        if what is Kind.FILE:
            self._left = _decimal(pax[b"size"]) if b"size" in pax else size
            self._padding = -self._left % BLOCK
        return Entry(
            name=name,
            kind=what,
            mode=_number(header[100:108], "mode") & 0o7777,
            uid=_owner(header[108:116], pax.get(b"uid")),
            gid=_owner(header[116:124], pax.get(b"gid")),
            size=self._left,
            mtime_ns=_mtime(header[136:148], pax.get(b"mtime")),
            link=pax.get(b"linkpath") or _text(header[157:257]),
            device=_device(header) if what in (Kind.CHAR, Kind.BLOCK) else (0, 0),
            xattrs=_xattrs(pax),
        )

    def _exactly(self, count: int) -> bytes:
        pieces = []
        while count:
            piece = self._read(count)
            if not piece:
                _bad("the tar archive is cut short")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)


def _bad(why: str) -> NoReturn:
    raise Invalid(why)


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _name(header: bytes) -> bytes:
    name = _text(header[0:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


@functools.lru_cache(4096)  # the same few owners, modes and times stand in thousands of headers
def _number(field: bytes, what: str) -> int:
    """An octal field, or GNU's base 256; negative times are taken, other negatives are not."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
    else:
        digits = field.replace(b"\0", b" ").strip()
        if digits.strip(b"01234567"):
            _bad(f"this is not a tar archive, or it is damaged: its {what} field holds {field!r}")
        value = int(digits or b"0", 8)
    if abs(value) >= _MAX_NUMBER or (value < 0 and what != "mtime"):
        _bad(f"the tar archive is damaged: its {what} is {value}")
    return value


def _check_sum(header: bytes) -> None:
    body = header[:148] + b" " * 8 + header[156:]
    stated = _number(header[148:156], "checksum")
    # Some old programs added up signed bytes.
    if stated != sum(body) and stated != sum(byte - 256 if byte > 127 else byte for byte in body):
        _bad("this is not a tar archive, or it is damaged: a header's checksum is wrong")


def _device(header: bytes) -> tuple[int, int]:
    major, minor = _number(header[329:337], "device number"), _number(header[337:345], "device number")
    if major >= 1 << 12 or minor >= 1 << 20:
        _bad(f"the tar archive is damaged: it has a device {major}:{minor}")
    return major, minor


def _owner(field: bytes, pax: bytes | None) -> int:
    value = _number(field, "owner") if pax is None else _decimal(pax)
    if value > _MAX_OWNER:
        _bad(f"the tar archive is damaged: it has an owner {value}")
    return value


def _mtime(field: bytes, pax: bytes | None) -> int:
    """Nanoseconds since 1970, kept within what every file system can store."""
    nanos = _number(field, "mtime") * 10**9 if pax is None else _time(pax)
    return max(-_MAX_TIME, min(_MAX_TIME, nanos))


def _decimal(value: bytes) -> int:
    if not value.isdigit() or len(value) > 19 or int(value) >= _MAX_NUMBER:
        _bad(f"the tar archive is damaged: a pax number reads {value[:40]!r}")
    return int(value)


def _time(value: bytes) -> int:
    """A pax time (decimal seconds, maybe negative) in whole nanoseconds."""
    negative, digits = value.startswith(b"-"), value.removeprefix(b"-")
    whole, _, part = digits.partition(b".")
    if part and not part.isdigit():
        _bad(f"the tar archive is damaged: a pax time reads {value[:40]!r}")
    nanos = _decimal(whole or b"0") * 10**9 + int(part[:9].ljust(9, b"0"))
    return -nanos if negative else nanos


def _pax(data: bytes) -> dict[bytes, bytes]:
    """The records ``length key=value\\n`` of a pax header."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data) and data[at] != 0:
        space = data.find(b" ", at, at + 20)
        digits = data[at:space] if space > 0 else b""
        end = at + int(digits) if digits.isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space + 1 or not equals or data[end - 1 : end] != b"\n":
            _bad("the tar archive is damaged: a pax record has a wrong length")
        records[key] = value
        at = end
    return records


def _xattrs(pax: dict[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    if not pax:
        return ()
    prefix = b"SCHILY.xattr."
    found = ((key[len(prefix) :], value) for key, value in pax.items() if key.startswith(prefix))
    return tuple(sorted(found))
