"""The upper directory of an overlay → a layer: tar, compressed, with both digests.  Blocking; for threads.

::

    upper ─► whiteouts and opaque marks become names ─► tar ─┬─► SHA-256: the diffID
                                                             └─► gzip ─► SHA-256, file: the blob

Names are sorted by bytes and nothing of the machine enters, so equal directories give equal layers.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from swarmd.image.codecs import gzipper
from swarmd.image.core.rules import is_allowed, shown
from swarmd.image.core.tar import CHUNK, Entry, Kind
from swarmd.image.core.tar_write import END, header, padding
from swarmd.image.lowers import OPAQUE, is_whiteout
from swarmd.image.pumps import Pump
from swarmd.model.errors import Invalid

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_OVERLAY = "trusted.overlay."
_FOREIGN = (f"{_OVERLAY}redirect", f"{_OVERLAY}metacopy")
_KINDS = {
    stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIR, stat.S_IFLNK: Kind.SYMLINK, stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK, stat.S_IFIFO: Kind.FIFO,
}  # fmt: skip
_HIDES = b".wh."
_NANO = 10**9


class Writable(Protocol):
    """Anything with a ``write`` that may take less than it is given: a raw file."""

    def write(self, data: memoryview, /) -> int | None: ...


def pack_layer(upper: Path, blob: Writable, clamp: float | None = None) -> tuple[str, str, int]:
    """Write the layer ``upper`` to ``blob``; answers digest, diffID and size in bytes.

    ``upper`` then is what unpacking the layer would give: sockets and the overlay's own notes are removed,
    times after ``clamp`` (seconds since 1970) set to it.  Raises :class:`Invalid` for what a layer cannot
    hold, OSError.
    """
    plain, packed, size = hashlib.sha256(), hashlib.sha256(), 0

    def keep(piece: bytes) -> None:
        nonlocal size
        packed.update(piece)
        view = memoryview(piece)
        while view:
            view = view[blob.write(view) or 0 :]
        size += len(piece)

    gzip = gzipper()
    with Pump(lambda piece: keep(gzip.compress(piece))) as squeezer:
        for piece in _blocks(_stream(upper, clamp)):
            squeezer.put(piece)
            plain.update(piece)
    keep(gzip.flush())
    return f"sha256:{packed.hexdigest()}", f"sha256:{plain.hexdigest()}", size


def _blocks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of one size: what a compressor makes may depend on how it is fed."""
    held, count = list[bytes](), 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count >= CHUNK:
            data = b"".join(held)
            for at in range(0, len(data) - CHUNK + 1, CHUNK):
                yield data[at : at + CHUNK]
            held, count = [data[len(data) // CHUNK * CHUNK :]], len(data) % CHUNK
    if count:
        yield b"".join(held)


def _stream(upper: Path, clamp: float | None) -> Iterator[bytes]:
    newest = None if clamp is None else int(clamp * _NANO)
    links: dict[int, bytes] = {}
    root = os.fsencode(upper)
    if _looks(root)[0]:
        yield header(_mark(b""))
    # What is open: the names still to come in each directory on the way, and what to do when it is done.
    waiting = [(b"", os.lstat(root), _sorted(root))]
    while waiting:
        prefix, seen, names = waiting[-1]
        name = next(names, None)
        if name is None:
            waiting.pop()
            # A directory's time changes when something in it is removed: it comes last.
            _clamp(os.path.join(root, prefix), seen, newest)
            continue
        path = os.path.join(root, prefix, name)
        found = os.lstat(path)
        if _is_dropped(path, prefix + name, found):
            continue
        if is_whiteout(found):
            yield header(Entry(prefix + _HIDES + name, Kind.FILE))
            continue
        yield from _entry(path, prefix + name, found, newest, links)
        if stat.S_ISDIR(found.st_mode):
            waiting.append((prefix + name + b"/", found, _sorted(path)))
        else:
            _clamp(path, found, newest)
    yield END


def _sorted(directory: bytes) -> Iterator[bytes]:
    return iter(sorted(os.listdir(directory)))


def _is_dropped(path: bytes, name: bytes, seen: os.stat_result) -> bool:
    if name.rsplit(b"/", 1)[-1].startswith(_HIDES):
        raise Invalid(f"the file {shown(name)} cannot be in a layer: its name says that another is deleted")
    if not stat.S_ISSOCK(seen.st_mode):
        return False
    os.unlink(path)
    return True


def _entry(
    path: bytes, name: bytes, seen: os.stat_result, newest: int | None, links: dict[int, bytes]
) -> Iterator[bytes]:
    kind = _KINDS[stat.S_IFMT(seen.st_mode)]
    link = os.readlink(path) if kind is Kind.SYMLINK else b""
    if seen.st_nlink > 1 and kind is not Kind.DIR:
        first = links.setdefault(seen.st_ino, name)
        if first != name:
            kind, link = Kind.HARDLINK, first
    opaque, xattrs = _looks(path) if kind in (Kind.FILE, Kind.DIR) else (False, ())
    is_device = kind in (Kind.CHAR, Kind.BLOCK)
    entry = Entry(
        name=name,
        kind=kind,
        mode=stat.S_IMODE(seen.st_mode),
        uid=seen.st_uid,
        gid=seen.st_gid,
        size=seen.st_size if kind is Kind.FILE else 0,
        mtime_ns=_time(seen, newest),
        link=link,
        device=(os.major(seen.st_rdev), os.minor(seen.st_rdev)) if is_device else (0, 0),
        xattrs=xattrs,
    )
    yield header(entry)
    if entry.size:
        yield from _data(path, entry)
    if opaque:
        yield header(_mark(name + b"/"))


def _mark(prefix: bytes) -> Entry:
    return Entry(prefix + b".wh..wh..opq", Kind.FILE)


def _data(path: bytes, entry: Entry) -> Iterator[bytes]:
    left = entry.size
    fd = os.open(path, _FILE)
    try:
        while left:
            piece = os.read(fd, min(left, CHUNK))
            if not piece:
                raise Invalid(f"the file {shown(entry.name)} became shorter while it was packed")
            left -= len(piece)
            yield piece
    finally:
        os.close(fd)
    yield padding(entry.size)


def _looks(path: bytes) -> tuple[bool, tuple[tuple[bytes, bytes], ...]]:
    """Whether the directory hides what is below, and the attributes that travel.

    The overlay's other notes are removed.
    """
    opaque, kept = False, list[tuple[bytes, bytes]]()
    for key in os.listxattr(path, follow_symlinks=False):
        value = os.getxattr(path, key, follow_symlinks=False)
        if key in _FOREIGN:
            raise Invalid(
                f"{shown(path)} is no whole copy: its overlay was mounted with redirect_dir or metacopy"
            )
        if key == OPAQUE:
            opaque = value == b"y"
        elif key.startswith(_OVERLAY):
            os.removexattr(path, key, follow_symlinks=False)
        elif is_allowed(os.fsencode(key)):
            if "=" in key:  # it would end there in the archive
                raise Invalid(f"{shown(path)} has an attribute {key!r}: a layer cannot hold one with a '='")
            kept.append((os.fsencode(key), value))
    return opaque, tuple(sorted(kept))


def _time(seen: os.stat_result, newest: int | None) -> int:
    return seen.st_mtime_ns if newest is None else min(seen.st_mtime_ns, newest)


def _clamp(path: bytes, seen: os.stat_result, newest: int | None) -> None:
    wanted = _time(seen, newest)
    if wanted != os.lstat(path).st_mtime_ns:
        os.utime(path, ns=(wanted, wanted), follow_symlinks=False)
