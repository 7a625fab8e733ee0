"""Entries → tar bytes: ustar headers, pax where they do not reach.  Pure; equal entries give equal bytes.

What other tools read is kept plain: numeric owners, whole seconds, no names of users.
"""

from __future__ import annotations

from swarmd.image.core.tar import BLOCK, Entry, Kind

END = bytes(2 * BLOCK)
"""Closes an archive."""

_TYPES = {
    Kind.FILE: b"0", Kind.HARDLINK: b"1", Kind.SYMLINK: b"2", Kind.CHAR: b"3", Kind.BLOCK: b"4",
    Kind.DIR: b"5", Kind.FIFO: b"6",
}  # fmt: skip
_MAX_NAME, _MAX_PREFIX = 100, 155
_MAX_ID = 0o7777777
_MAX_SIZE = 0o77777777777
_SECOND = 10**9


def header(entry: Entry) -> bytes:
    """Everything that stands before the entry's data; directories get their ``/``."""
    name = entry.name.rstrip(b"/") + b"/" if entry.kind is Kind.DIR else entry.name
    pax = _pax(entry, name)
    head = _block(_TYPES[entry.kind], entry, name)
    if not pax:
        return head
    records = b"".join(_record(key, value) for key, value in sorted(pax.items()))
    about = Entry(b"PaxHeaders.0/" + _plain(name.rstrip(b"/").rsplit(b"/", 1)[-1])[:80], Kind.FILE)
    return _block(b"x", about, about.name, len(records)) + records + padding(len(records)) + head


def padding(size: int) -> bytes:
    """What fills data of ``size`` bytes up to whole blocks."""
    return bytes(-size % BLOCK)


def _pax(entry: Entry, name: bytes) -> dict[bytes, bytes]:
    pax = {b"SCHILY.xattr." + key: value for key, value in entry.xattrs}
    if not _is_plain(name) or _split(name) is None:
        pax[b"path"] = name
    if entry.link and (not _is_plain(entry.link) or len(entry.link) > _MAX_NAME):
        pax[b"linkpath"] = entry.link
    for key, value in ((b"uid", entry.uid), (b"gid", entry.gid)):
        if value > _MAX_ID:
            pax[key] = b"%d" % value
    if entry.size > _MAX_SIZE:
        pax[b"size"] = b"%d" % entry.size
    seconds = entry.mtime_ns // _SECOND
    if not 0 <= seconds <= _MAX_SIZE:
        pax[b"mtime"] = b"%d" % seconds
    return pax


def _record(key: bytes, value: bytes) -> bytes:
    """``length key=value\\n``, where the length counts itself."""
    rest = b" " + key + b"=" + value + b"\n"
    size = len(rest) + len(str(len(rest)))
    size = len(rest) + len(str(size))
    return b"%d" % size + rest


def _block(kind: bytes, entry: Entry, name: bytes, size: int | None = None) -> bytes:
    prefix, base = _split(_plain(name)) or (b"", _plain(name)[:_MAX_NAME])
    major, minor = entry.device
    fields = (
        base.ljust(100, b"\0"),
        _octal(entry.mode & 0o7777, 8),
        _octal(entry.uid if entry.uid <= _MAX_ID else 0, 8),
        _octal(entry.gid if entry.gid <= _MAX_ID else 0, 8),
        _octal(_size(entry) if size is None else size, 12),
        _octal(min(max(entry.mtime_ns // _SECOND, 0), _MAX_SIZE), 12),
        b" " * 8,
        kind,
        _plain(entry.link)[:_MAX_NAME].ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),
        _octal(major, 8),
        _octal(minor, 8),
        prefix.ljust(_MAX_PREFIX, b"\0"),
        bytes(12),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _size(entry: Entry) -> int:
    return entry.size if entry.kind is Kind.FILE and entry.size <= _MAX_SIZE else 0


def _octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """``name`` as prefix and rest of a ustar header; None when it does not fit."""
    if len(name) <= _MAX_NAME:
        return b"", name
    cut = name.rfind(b"/", 0, min(len(name) - 1, _MAX_PREFIX + 1))
    if cut <= 0 or len(name) - cut - 1 > _MAX_NAME:
        return None
    return name[:cut], name[cut + 1 :]


def _is_plain(name: bytes) -> bool:
    return name.isascii()


def _plain(name: bytes) -> bytes:
    """For readers that know no pax."""
    return name if name.isascii() else bytes(byte if byte < 128 else 0x5F for byte in name)
