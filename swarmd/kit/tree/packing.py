"""A file or directory tree → a tar stream (pax), while others may change the tree.

Blocking; for threads.  Nothing is followed below the top, no device is opened, and what vanishes meanwhile
is left out.  Holes stay holes (GNU's sparse format 1.0).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
from collections.abc import Iterator

from swarmd.kit.tree.confined import held, open_below
from swarmd.kit.tree.ids import UNCHANGED, Owners

CHUNK = 256 << 10
_BLOCK = tarfile.BLOCKSIZE
_MOST_PIECES = 10_000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_O_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)
_KINDS = {stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE, stat.S_IFIFO: tarfile.FIFOTYPE}


def pack(top: int, name: str, owners: Owners = UNCHANGED) -> Iterator[bytes]:
    """The tar of what the descriptor ``top`` (opened with O_PATH) stands for, under ``name``.

    The descriptor stays the caller's.  Raises OSError when something that is there cannot be read.
    """
    return _Packer(owners).run(top, name)


class _Packer:
    def __init__(self, owners: Owners) -> None:
        self._owners = owners
        self._linked: dict[tuple[int, int], str] = {}

    def run(self, top: int, name: str) -> Iterator[bytes]:
        seen = os.fstat(top)
        if stat.S_ISDIR(seen.st_mode):
            yield from self._tree(top, name)
        elif stat.S_ISLNK(seen.st_mode):
            yield self._header(name, seen, kind=tarfile.SYMTYPE, link=os.readlink("", dir_fd=top))
        elif stat.S_ISREG(seen.st_mode):
            with held(_reopened(top)) as fd:
                yield from self._file(fd, name)
        else:
            yield from self._node(name, seen)
        yield bytes(2 * _BLOCK)

    def _tree(self, top: int, name: str) -> Iterator[bytes]:
        waiting = ["."]
        while waiting:
            path = waiting.pop()
            try:
                fd = open_below(top, path, _DIRECTORY)
            except OSError as error:
                if error.errno in _GONE:
                    continue
                raise
            with held(fd):
                yield self._header(_joined(name, path), os.fstat(fd), kind=tarfile.DIRTYPE, source=fd)
                below = []
                for entry in sorted(os.listdir(fd)):
                    inner = entry if path == "." else f"{path}/{entry}"
                    with contextlib.suppress(FileNotFoundError):
                        seen = os.stat(entry, dir_fd=fd, follow_symlinks=False)
                        if stat.S_ISDIR(seen.st_mode):
                            below.append(inner)
                            continue
                        yield from self._entry(fd, entry, _joined(name, inner))
                waiting += reversed(below)

    def _entry(self, directory: int, entry: str, name: str) -> Iterator[bytes]:
        with held(os.open(entry, _O_PATH, dir_fd=directory)) as place:
            seen = os.fstat(place)
            first = self._linked.get((seen.st_dev, seen.st_ino)) if seen.st_nlink > 1 else None
            if first is not None:
                yield self._header(name, seen, kind=tarfile.LNKTYPE, link=first)
                return
            if stat.S_ISLNK(seen.st_mode):
                yield self._header(name, seen, kind=tarfile.SYMTYPE, link=os.readlink("", dir_fd=place))
            elif stat.S_ISREG(seen.st_mode):
                with held(_reopened(place)) as fd:
                    yield from self._file(fd, name)
            else:
                yield from self._node(name, seen)
            if seen.st_nlink > 1 and not stat.S_ISDIR(seen.st_mode):
                self._linked[seen.st_dev, seen.st_ino] = name

    def _node(self, name: str, seen: os.stat_result) -> Iterator[bytes]:
        kind = _KINDS.get(stat.S_IFMT(seen.st_mode))
        if kind is not None:  # a socket is nothing without its program
            yield self._header(name, seen, kind=kind)

    def _file(self, fd: int, name: str) -> Iterator[bytes]:
        seen = os.fstat(fd)
        pieces = _pieces(fd, seen)
        if pieces is None:
            yield self._header(name, seen, size=seen.st_size, source=fd)
            yield from _padded(_read(fd, 0, seen.st_size), seen.st_size)
            return
        numbers = [len(pieces), *(number for piece in pieces for number in piece)]
        table = "".join(f"{number}\n" for number in numbers).encode()
        table += bytes(-len(table) % _BLOCK)
        size = len(table) + sum(length for _, length in pieces)
        more = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": name,
            "GNU.sparse.realsize": str(seen.st_size),
        }
        yield self._header(name, seen, size=size, source=fd, more=more)
        yield table
        yield from _padded((data for at, length in pieces for data in _read(fd, at, length)), size)

    def _header(
        self, name: str, seen: os.stat_result, *, kind: bytes = tarfile.REGTYPE, size: int = 0,
        link: str = "", source: int = -1, more: dict[str, str] | None = None,
    ) -> bytes:  # fmt: skip
        info = tarfile.TarInfo(name)
        info.type, info.size, info.linkname = kind, size, link
        info.mode = stat.S_IMODE(seen.st_mode)
        info.uid = self._owners.users.inside(seen.st_uid)
        info.gid = self._owners.groups.inside(seen.st_gid)
        info.mtime = seen.st_mtime
        if kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            info.devmajor, info.devminor = os.major(seen.st_rdev), os.minor(seen.st_rdev)
        info.pax_headers = {**_attributes(source), **(more or {})}
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _joined(name: str, path: str) -> str:
    return name if path == "." else f"{name}/{path}"


def _reopened(place: int) -> int:
    """For reading, the very file that an O_PATH descriptor stands for: no other can take its place."""
    return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _pieces(fd: int, seen: os.stat_result) -> list[tuple[int, int]] | None:
    """(offset, length) of the data of a file with holes; None for one to be written as it is."""
    if seen.st_blocks * 512 >= seen.st_size:
        return None
    found: list[tuple[int, int]] = []
    at = 0
    while at < seen.st_size and len(found) < _MOST_PIECES:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
            at = min(os.lseek(fd, begin, os.SEEK_HOLE), seen.st_size)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nothing but a hole up to the end
                return None
            break
        if begin < at:
            found.append((begin, at - begin))
    else:
        if at < seen.st_size:
            return None
    return [*found, (seen.st_size, 0)]


def _read(fd: int, at: int, length: int) -> Iterator[bytes]:
    """``length`` bytes; zeros for those that somebody cut off meanwhile."""
    while length:
        data = os.pread(fd, min(CHUNK, length), at) or bytes(min(CHUNK, length))
        yield data
        at, length = at + len(data), length - len(data)


def _padded(data: Iterator[bytes], size: int) -> Iterator[bytes]:
    yield from data
    if size % _BLOCK:
        yield bytes(-size % _BLOCK)


def _attributes(fd: int) -> dict[str, str]:
    """What users keep beside a file, and its capabilities; security labels belong to where it is."""
    found: dict[str, str] = {}
    if fd >= 0:
        with contextlib.suppress(OSError):
            for name in os.listxattr(fd):
                if name.startswith("user.") or name == "security.capability":
                    found[f"SCHILY.xattr.{name}"] = os.getxattr(fd, name).decode("utf-8", "surrogateescape")
    return found
